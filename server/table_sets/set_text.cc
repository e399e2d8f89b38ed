#include "server/table_sets/set_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace engram {
namespace {

// "264 bytes, fp8_e4m3 of 264 values, scale 0.5": all that tells how a row is to be read.
std::string RowText(const LayerTableSpec& layer) {
  const RowEncoding& encoding = layer.encoding;
  std::string text = absl::StrCat(layer.row_bytes, " bytes, ", Name(encoding.kind));
  if (!encoding.label.empty()) absl::StrAppend(&text, " \"", encoding.label, "\"");
  if (encoding.dim != 0) absl::StrAppend(&text, " of ", encoding.dim, " values");
  if (encoding.global_scale != 0) {
    absl::StrAppendFormat(&text, ", scale %.9g", encoding.global_scale);
  }
  return text;
}

std::string LayersText(const Manifest& manifest) {
  return absl::StrJoin(manifest.layers, ", ", [](std::string* text, const LayerTableSpec& layer) {
    absl::StrAppend(text, layer.layer);
  });
}

}  // namespace

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

std::string PagesText(const ResidentPages& pages) {
  std::string text;
  for (const auto& [kind, bytes] : ByKind(pages)) {
    if (bytes == 0) continue;
    absl::StrAppendFormat(&text, "%s%.2f GB on %s", text.empty() ? "" : ", ", Gigabytes(bytes),
                          Name(kind));
  }
  return absl::StrCat(text.empty() ? "0 GB on any" : text, " pages");
}

std::string ShapeChange(const Manifest& before, const Manifest& now) {
  std::string text;
  const auto compare = [&text](const std::string& what, const std::string& was,
                               const std::string& is) {
    if (was == is) return false;
    absl::StrAppend(&text, text.empty() ? "" : "; ", what, ": ", was, " before, ", is, " now");
    return true;
  };
  compare("layers", LayersText(before), LayersText(now));
  compare("columns", absl::StrCat(before.scheme.Columns()), absl::StrCat(now.scheme.Columns()));
  for (const LayerTableSpec& layer : now.layers) {
    const LayerTableSpec* const old = before.FindLayer(layer.layer);
    if (old == nullptr) continue;
    if (compare(absl::StrCat("a row of layer ", layer.layer), RowText(*old), RowText(layer))) break;
  }
  return text;
}

}  // namespace engram
