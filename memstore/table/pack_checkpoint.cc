#include "memstore/table/pack_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "memstore/table/checkpoint_config.h"
#include "memstore/table/checkpoint_layout.h"
#include "memstore/table/direct_file.h"
#include "memstore/table/interleave.h"
#include "memstore/table/safetensors.h"

namespace engram {
namespace {

// The files that rows are read from, each opened once.
using Files = std::map<std::string, DirectReader>;

absl::Status OpenFiles(const CheckpointLayer& layer, Files& files) {
  for (const RowPiece& piece : layer.pieces) {
    for (const TensorPlace* tensor : {piece.weight, piece.scale}) {
      if (tensor == nullptr || files.count(tensor->file) > 0) continue;
      absl::StatusOr<DirectReader> reader = DirectReader::Open(tensor->file);
      if (!reader.ok()) return reader.status();
      files.emplace(tensor->file, std::move(*reader));
    }
  }
  return absl::OkStatus();
}

// One thread's way from tensors to rows.
class RowReader {
 public:
  RowReader(const CheckpointLayer& layer, const Files& files) : layer_(layer), files_(files) {}

  absl::Status Fill(RowId first_row, absl::Span<std::byte> rows) {
    const uint64_t row_bytes = layer_.weight_bytes + layer_.scale_bytes;
    while (!rows.empty()) {
      const auto behind =
          std::upper_bound(layer_.pieces.begin(), layer_.pieces.end(), first_row,
                           [](RowId row, const RowPiece& piece) { return row < piece.first_row; });
      const RowPiece& piece = *(behind - 1);
      const uint64_t skipped = first_row - piece.first_row;
      const uint64_t count = std::min(rows.size() / row_bytes, piece.rows - skipped);
      absl::Status status = FillFrom(piece, skipped, count, rows.first(count * row_bytes));
      if (!status.ok()) return status;
      rows.remove_prefix(count * row_bytes);
      first_row += count;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status FillFrom(const RowPiece& piece, uint64_t skipped, uint64_t count,
                        absl::Span<std::byte> out) {
    auto weights = Read(*piece.weight, skipped, count, layer_.weight_bytes, weight_buffer_);
    if (!weights.ok()) return weights.status();
    if (piece.scale == nullptr) {
      std::memcpy(out.data(), weights->data(), out.size());
      return absl::OkStatus();
    }
    auto scales = Read(*piece.scale, skipped, count, layer_.scale_bytes, scale_buffer_);
    if (!scales.ok()) return scales.status();
    InterleaveRows(*weights, layer_.weight_bytes, *scales, layer_.scale_bytes, out);
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const std::byte>> Read(const TensorPlace& tensor, uint64_t skipped,
                                                   uint64_t count, uint32_t row_bytes,
                                                   PageBuffer& buffer) const {
    return files_.at(tensor.file)
        .Read(tensor.offset + skipped * row_bytes, count * row_bytes, buffer);
  }

  const CheckpointLayer& layer_;
  const Files& files_;
  PageBuffer weight_buffer_;
  PageBuffer scale_buffer_;
};

LayerTableSpec SpecOf(const LayerAddressing& addressing, const CheckpointLayer& layer) {
  LayerTableSpec spec;
  spec.layer = addressing.layer;
  spec.rows = addressing.Rows();
  spec.row_bytes = layer.weight_bytes + layer.scale_bytes;
  spec.encoding = layer.encoding;
  return spec;
}

}  // namespace

absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options) {
  absl::StatusOr<PackScheme> scheme = MakePackScheme(family, options);
  if (!scheme.ok()) return scheme.status();
  absl::Status status = CheckCheckpointConfig(
      checkpoint, family, scheme->scheme,
      options.rows_per_head > 0 ? options.rows_per_head : family.rows_per_head);
  if (!status.ok()) return status;
  absl::StatusOr<Checkpoint> opened =
      Checkpoint::Open(checkpoint, TableTensors(family, scheme->scheme));
  if (!opened.ok()) return opened.status();

  Files files;
  std::vector<std::unique_ptr<const CheckpointLayer>> layouts;
  std::vector<LayerRows> layers;
  for (const LayerAddressing& addressing : scheme->scheme.layers) {
    absl::StatusOr<CheckpointLayer> layout = LayOutLayer(family, addressing, *opened);
    if (!layout.ok()) return layout.status();
    status = OpenFiles(*layout, files);
    if (!status.ok()) return status;
    layouts.push_back(std::make_unique<const CheckpointLayer>(std::move(*layout)));
    const CheckpointLayer& layer = *layouts.back();
    layers.push_back({SpecOf(addressing, layer), [&layer, &files]() -> RowFill {
                        auto reader = std::make_shared<RowReader>(layer, files);
                        return [reader](RowId first_row, absl::Span<std::byte> rows) {
                          return reader->Fill(first_row, rows);
                        };
                      }});
  }
  return WriteTableSet(family, options, *scheme, layers);
}

}  // namespace engram
