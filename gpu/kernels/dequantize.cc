#include "gpu/kernels/dequantize.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "gpu/kernels/dequantize_cuda.h"

namespace engram {
namespace {

absl::StatusOr<RowValues> ValuesOf(const RowEncoding& encoding) {
  switch (encoding.kind) {
    case RowEncodingKind::kBf16:
      return RowValues::kBf16;
    case RowEncodingKind::kFp16:
      return RowValues::kFp16;
    case RowEncodingKind::kFp32:
      return RowValues::kFp32;
    case RowEncodingKind::kFp8E4m3:
      return RowValues::kE4m3;
    case RowEncodingKind::kFp8E4m3Ue8m0Block32:
      return RowValues::kE4m3Ue8m0;
    case RowEncodingKind::kOpaque:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("rows of encoding ", EncodingName(encoding),
                   " cannot be dequantised: this program does not know what their bytes mean"));
}

// `value` is the product of four and twenty-four bits: exact in double. Rounded by hand, since the
// way through float would round twice.
uint16_t Bf16OfExact(double value) {
  if (std::isnan(value)) return kBf16Nan;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  // A bf16's unit: eight bits from its first, and 2^-133 at least.
  const int unit = std::max(std::ilogb(magnitude) - 7, -133);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(magnitude, -unit)), unit);
  if (rounded >= std::ldexp(1.0, 128)) return sign | kBf16Infinity;
  return sign | static_cast<uint16_t>(BitsOfFloat(static_cast<float>(rounded)) >> 16);
}

E4m3Table TableOf(float scale) {
  E4m3Table table;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const double magnitude = double{MagnitudeOfE4m3(byte)} * double{scale};
    const bool is_nan = (byte & 0x7F) == 0x7F;
    table.bf16[byte] = Bf16OfExact(is_nan         ? std::numeric_limits<double>::quiet_NaN()
                                   : byte >= 0x80 ? -magnitude
                                                  : magnitude);
  }
  return table;
}

bool IsAligned(const void* pointer, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// Whether DequantizePiece may load and store whole pieces.
bool WholePieces(const DequantizeArguments& a) {
  const uint64_t load = a.values == RowValues::kE4m3 || a.values == RowValues::kE4m3Ue8m0 ? 8 : 16;
  return a.dim % kValuesAPiece == 0 && a.token_stride % kValuesAPiece == 0 &&
         a.row_bytes % load == 0 && IsAligned(a.rows, load) && IsAligned(a.out, sizeof(EightWords));
}

}  // namespace

absl::StatusOr<Dequantizer> Dequantizer::Create(const RowEncoding& encoding, ScaleReading reading) {
  const absl::StatusOr<RowValues> values = ValuesOf(encoding);
  if (!values.ok()) return values.status();
  const bool scaled_blocks = *values == RowValues::kE4m3Ue8m0;
  if (encoding.dim == 0 || (scaled_blocks && encoding.dim % kValuesAScale != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("rows of encoding ", Name(encoding.kind),
                                                   " cannot have ", encoding.dim, " values",
                                                   scaled_blocks ? ": 32 share a scale" : ""));
  }
  if (*values == RowValues::kE4m3 && !std::isfinite(encoding.global_scale)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the scale of fp8_e4m3 rows is ", encoding.global_scale, ": not a number"));
  }
  Dequantizer dequantizer;
  dequantizer.values_ = *values;
  dequantizer.reading_ = reading;
  dequantizer.dim_ = encoding.dim;
  dequantizer.row_bytes_ = EncodedRowBytes(encoding);
  if (*values == RowValues::kE4m3) dequantizer.table_ = TableOf(encoding.global_scale);
  dequantizer.on_host_ = ChooseDequantize();
  return dequantizer;
}

absl::StatusOr<DequantizeArguments> Dequantizer::Arguments(const DequantizeBatch& batch) const {
  const uint64_t places = uint64_t{batch.tokens} * batch.columns;
  const uint64_t stride =
      batch.token_stride == 0 ? uint64_t{batch.columns} * dim_ : batch.token_stride;
  if (stride < uint64_t{batch.columns} * dim_) {
    return absl::InvalidArgumentError(absl::StrCat("a token's ", batch.columns, " rows of ", dim_,
                                                   " values overlap the next one's: the stride is ",
                                                   stride));
  }
  if (places * ((dim_ + kValuesAPiece - 1) / kValuesAPiece) >= kMaxPieces) {
    return absl::InvalidArgumentError(absl::StrCat(
        batch.tokens, " tokens are too many to dequantise at once: cut the batch in two"));
  }
  if (batch.inverse == nullptr && batch.row_count != places) {
    return absl::InvalidArgumentError(
        absl::StrCat(batch.row_count, " rows for ", places,
                     " places: give the inverse that says which is where"));
  }
  if (batch.inverse != nullptr && batch.bad_rows == nullptr) {
    return absl::InvalidArgumentError(
        "an inverse needs a word that is set when it is out of range: bad_rows is null");
  }
  if (places > 0 && (batch.rows == nullptr || batch.out == nullptr)) {
    return absl::InvalidArgumentError("rows to dequantise, or their places, have no memory");
  }
  return DequantizeArguments{.values = values_,
                             .reading = reading_,
                             .dim = dim_,
                             .row_bytes = row_bytes_,
                             .rows = batch.rows,
                             .row_count = batch.row_count,
                             .inverse = batch.inverse,
                             .places = static_cast<uint32_t>(places),
                             .columns = batch.columns,
                             .token_stride = stride,
                             .out = batch.out,
                             .bad_rows = batch.bad_rows};
}

absl::Status Dequantizer::Enqueue(const DequantizeBatch& batch, Stream& stream) const {
  const absl::StatusOr<DequantizeArguments> arguments = Arguments(batch);
  if (!arguments.ok()) return arguments.status();
  if (arguments->places == 0) return absl::OkStatus();
  if (stream.native() == nullptr) {
    return stream.LaunchOnHost([a = *arguments, table = &table_, run = on_host_] {
      if (!run(a, *table)) *a.bad_rows = 1;
    });
  }
  const char* const error =
      LaunchDequantize(*arguments, table_, WholePieces(*arguments), stream.native());
  if (*error == '\0') return absl::OkStatus();
  return absl::InternalError(absl::StrCat("dequantising rows: ", error));
}

absl::Status Dequantizer::Run(const DequantizeBatch& batch) const {
  const absl::StatusOr<DequantizeArguments> arguments = Arguments(batch);
  if (!arguments.ok()) return arguments.status();
  if (!on_host_(*arguments, table_)) *arguments->bad_rows = 1;
  return absl::OkStatus();
}

}  // namespace engram
