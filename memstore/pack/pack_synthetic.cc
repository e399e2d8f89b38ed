#include "memstore/pack/pack_synthetic.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/pack/provenance.h"
#include "memstore/table/side_files.h"
#include "memstore/table/synthetic.h"

namespace engram {

RowEncoding ReleasedEncoding(const Family& family) {
  const RowEncodingKind kind =
      family.scale_per_row ? RowEncodingKind::kFp8E4m3Ue8m0Block32 : RowEncodingKind::kBf16;
  return {kind, family.row_dim, 0};
}

absl::Status CheckSyntheticLayers(const PackOptions& options) {
  for (const uint32_t layer : options.layers) {
    if (layer <= kMaxSyntheticLayer) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, " is above ", kMaxSyntheticLayer,
                     ", the last one that synthetic rows are made for: give lower layer numbers"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Manifest> PackSynthetic(const Family& family, const PackOptions& options) {
  absl::Status status = CheckSyntheticLayers(options);
  if (!status.ok()) return status;
  absl::StatusOr<PackScheme> scheme = MakePackScheme(family, options);
  if (!scheme.ok()) return scheme.status();
  const RowEncoding encoding = ReleasedEncoding(family);
  const uint32_t row_bytes = EncodedRowBytes(encoding);
  std::vector<LayerRows> layers;
  for (const LayerAddressing& addressing : scheme->scheme.layers) {
    const uint32_t layer = addressing.layer;
    LayerTableSpec spec;
    spec.layer = layer;
    spec.rows = addressing.Rows();
    spec.row_bytes = row_bytes;
    spec.encoding = encoding;
    spec.synthetic = true;
    layers.push_back({std::move(spec), [layer, row_bytes]() -> RowFill {
                        return [layer, row_bytes](RowId first_row, absl::Span<std::byte> rows) {
                          SyntheticRows(layer, first_row, row_bytes, rows);
                          return absl::OkStatus();
                        };
                      }});
  }
  PackOptions resumable = options;
  resumable.writer.source_identity = "synthetic";  // layer and row make the bytes
  return WriteTableSet(
      family, resumable, *scheme, layers, [] { return absl::OkStatus(); },
      SourceSideFiles(MakeProvenance(kSyntheticSource, "", options), family.image_token_ids));
}

}  // namespace engram
