#include "absl/strings/match.h"
#include "memstore/table/manifest.h"

namespace engram {
namespace {

constexpr absl::string_view kNoKind = "unknown";

}  // namespace

uint32_t EncodedRowBytes(const RowEncoding& encoding) {
  switch (encoding.kind) {
    case RowEncodingKind::kOpaque:
      return 0;
    case RowEncodingKind::kBf16:
    case RowEncodingKind::kFp16:
      return encoding.dim * 2;
    case RowEncodingKind::kFp32:
      return encoding.dim * 4;
    case RowEncodingKind::kFp8E4m3:
      return encoding.dim;
    case RowEncodingKind::kFp8E4m3Ue8m0Block32:
      return encoding.dim + encoding.dim / kScaleBlockValues;
  }
  return 0;
}

absl::string_view Name(RowEncodingKind kind) {
  switch (kind) {
    case RowEncodingKind::kOpaque:
      return "opaque";
    case RowEncodingKind::kBf16:
      return "bf16";
    case RowEncodingKind::kFp16:
      return "fp16";
    case RowEncodingKind::kFp32:
      return "fp32";
    case RowEncodingKind::kFp8E4m3:
      return "fp8_e4m3";
    case RowEncodingKind::kFp8E4m3Ue8m0Block32:
      return "fp8_e4m3_ue8m0_block32";
  }
  return kNoKind;
}

bool IsKindName(absl::string_view name) {
  // Kinds count from 0 without a gap, and each has a name.
  for (int i = 0;; ++i) {
    const absl::string_view known = Name(static_cast<RowEncodingKind>(i));
    if (known == kNoKind) return false;
    if (absl::EqualsIgnoreCase(known, name)) return true;
  }
}

std::string EncodingName(const RowEncoding& encoding) {
  return encoding.label.empty() ? std::string(Name(encoding.kind)) : encoding.label;
}

const LayerTableSpec* Manifest::FindLayer(uint32_t layer) const {
  for (const LayerTableSpec& spec : layers) {
    if (spec.layer == layer) return &spec;
  }
  return nullptr;
}

uint64_t Manifest::TableBytes() const {
  uint64_t bytes = 0;
  for (const LayerTableSpec& spec : layers) bytes += spec.rows * spec.row_bytes;
  return bytes;
}

}  // namespace engram
