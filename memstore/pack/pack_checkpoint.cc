#include "memstore/pack/pack_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memstore/os/direct_file.h"
#include "memstore/pack/checkpoint_config.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/interleave.h"
#include "memstore/pack/safetensors.h"

namespace engram {
namespace {

// A file that stays open from one read to the next: rows are taken in order, so a thread changes
// files seldom, and the descriptors do not grow with the checkpoint's files.
class LastFile {
 public:
  absl::StatusOr<const DirectReader*> Open(const std::string& path) {
    if (reader_ == nullptr || reader_->path() != path) {
      absl::StatusOr<DirectReader> opened = DirectReader::Open(path);
      if (!opened.ok()) return opened.status();
      reader_ = std::make_unique<DirectReader>(*std::move(opened));
    }
    return reader_.get();
  }

 private:
  std::unique_ptr<DirectReader> reader_;
};

// Of one tensor that is read alongside another.
struct Source {
  LastFile file;
  PageBuffer buffer;
};

// One thread's way from tensors to rows.
class RowReader {
 public:
  explicit RowReader(const CheckpointLayer& layer) : layer_(layer) {}

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
    auto weights = Read(*piece.weight, skipped, count, layer_.weight_bytes, weights_);
    if (!weights.ok()) return weights.status();
    if (piece.scale == nullptr) {
      std::memcpy(out.data(), weights->data(), out.size());
      return absl::OkStatus();
    }
    auto scales = Read(*piece.scale, skipped, count, layer_.scale_bytes, scales_);
    if (!scales.ok()) return scales.status();
    InterleaveRows(*weights, layer_.weight_bytes, *scales, layer_.scale_bytes, out);
    return absl::OkStatus();
  }

  static absl::StatusOr<absl::Span<const std::byte>> Read(const TensorPlace& tensor,
                                                          uint64_t skipped, uint64_t count,
                                                          uint32_t row_bytes, Source& source) {
    absl::StatusOr<const DirectReader*> file = source.file.Open(tensor.file);
    if (!file.ok()) return file.status();
    return (*file)->Read(tensor.offset + skipped * row_bytes, count * row_bytes, source.buffer);
  }

  const CheckpointLayer& layer_;
  Source weights_;
  Source scales_;
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

  std::vector<std::unique_ptr<const CheckpointLayer>> layouts;
  std::vector<LayerRows> layers;
  for (const LayerAddressing& addressing : scheme->scheme.layers) {
    absl::StatusOr<CheckpointLayer> layout = LayOutLayer(family, addressing, *opened);
    if (!layout.ok()) return layout.status();
    layouts.push_back(std::make_unique<const CheckpointLayer>(std::move(*layout)));
    const CheckpointLayer& layer = *layouts.back();
    layers.push_back({SpecOf(addressing, layer), [&layer]() -> RowFill {
                        auto reader = std::make_shared<RowReader>(layer);
                        return [reader](RowId first_row, absl::Span<std::byte> rows) {
                          return reader->Fill(first_row, rows);
                        };
                      }});
  }
  return WriteTableSet(family, options, *scheme, layers);
}

}  // namespace engram
