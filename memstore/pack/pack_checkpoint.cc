#include "memstore/pack/pack_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/direct_file.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/checkpoint_scheme.h"
#include "memstore/pack/interleave.h"
#include "memstore/safetensors/blob_digests.h"
#include "memstore/safetensors/checkpoint_files.h"

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
  RowReader(const CheckpointLayer& layer, const BlobDigests& digests)
      : layer_(layer), digests_(digests) {}

  absl::Status Fill(RowId first_row, absl::Span<std::byte> rows) {
    // Of a damaged file nothing more needs to be read: may_publish says which one it is.
    if (digests_.failed()) return absl::AbortedError("a file of the checkpoint is damaged");
    const uint64_t row_bytes = layer_.weight_bytes + layer_.scale_bytes;
    while (!rows.empty()) {
      const RowRun& weights = RunAt(layer_.weights, first_row);
      uint64_t count = std::min(rows.size() / row_bytes, RowsBehind(weights, first_row));
      const RowRun* scales = nullptr;
      if (!layer_.scales.empty()) {
        scales = &RunAt(layer_.scales, first_row);
        count = std::min(count, RowsBehind(*scales, first_row));
      }
      absl::Status status =
          FillFrom(weights, scales, first_row, count, rows.first(count * row_bytes));
      if (!status.ok()) return status;
      rows.remove_prefix(count * row_bytes);
      first_row += count;
    }
    return absl::OkStatus();
  }

 private:
  static const RowRun& RunAt(const std::vector<RowRun>& runs, RowId row) {
    const auto behind =
        std::upper_bound(runs.begin(), runs.end(), row,
                         [](RowId row, const RowRun& run) { return row < run.first_row; });
    return *(behind - 1);
  }
  static uint64_t RowsBehind(const RowRun& run, RowId row) {
    return run.first_row + run.rows - row;
  }

  absl::Status FillFrom(const RowRun& weight_run, const RowRun* scale_run, RowId first_row,
                        uint64_t count, absl::Span<std::byte> out) {
    auto weights = Read(weight_run, first_row, count, layer_.weight_bytes, weights_);
    if (!weights.ok()) return weights.status();
    if (scale_run == nullptr) {
      std::memcpy(out.data(), weights->data(), out.size());
      return absl::OkStatus();
    }
    auto scales = Read(*scale_run, first_row, count, layer_.scale_bytes, scales_);
    if (!scales.ok()) return scales.status();
    InterleaveRows(*weights, layer_.weight_bytes, *scales, layer_.scale_bytes, out);
    return absl::OkStatus();
  }

  static absl::StatusOr<absl::Span<const std::byte>> Read(const RowRun& run, RowId first_row,
                                                          uint64_t count, uint32_t row_bytes,
                                                          Source& source) {
    absl::StatusOr<const DirectReader*> file = source.file.Open(run.tensor->file);
    if (!file.ok()) return file.status();
    return (*file)->Read(run.tensor->offset + (first_row - run.first_row) * row_bytes,
                         count * row_bytes, source.buffer);
  }

  const CheckpointLayer& layer_;
  const BlobDigests& digests_;
  Source weights_;
  Source scales_;
};

// The files that rows are read from and whose names give their digests.
std::vector<Blob> BlobsOf(const std::vector<std::unique_ptr<const CheckpointLayer>>& layers) {
  std::map<std::string, Blob> blobs;
  for (const auto& layer : layers) {
    for (const std::vector<RowRun>* runs : {&layer->weights, &layer->scales}) {
      for (const RowRun& run : *runs) {
        if (std::optional<Blob> blob = BlobOf(run.tensor->file)) blobs.emplace(blob->path, *blob);
      }
    }
  }
  std::vector<Blob> list;
  for (auto& [path, blob] : blobs) list.push_back(std::move(blob));
  return list;
}

LayerTableSpec SpecOf(const LayerAddressing& addressing, const CheckpointLayer& layer) {
  LayerTableSpec spec;
  spec.layer = addressing.layer;
  spec.rows = addressing.Rows();
  spec.row_bytes = layer.weight_bytes + layer.scale_bytes;
  spec.encoding = layer.encoding;
  return spec;
}

absl::StatusOr<CheckpointLayer> LayOutStatedLayer(const CheckpointScheme& model,
                                                  const LayerAddressing& addressing,
                                                  const NoteFunction& note) {
  absl::StatusOr<CheckpointLayer> layout =
      LayOutLayer(model.family, addressing, *model.checkpoint, note);
  if (!layout.ok()) return WithDifferences(layout.status(), model);
  std::vector<uint64_t> piece_rows;
  const TensorPlace* before = nullptr;
  for (const RowRun& run : layout->weights) {
    // The parts of ranks are cut by another rule.
    if (before != nullptr && before->name == run.tensor->name) return layout;
    before = run.tensor;
    piece_rows.push_back(run.tensor->shape[0]);
  }
  ENGRAM_RETURN_IF_ERROR(model.stated.CheckPieces(addressing.Rows(), piece_rows));
  return layout;
}

}  // namespace

absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckCheckpointDirectory(checkpoint));
  ENGRAM_ASSIGN_OR_RETURN(const CheckpointScheme model,
                          ReadCheckpointScheme(family, checkpoint, options));
  const std::vector<LayerAddressing>& addressings = model.scheme.scheme.layers;
  std::vector<std::unique_ptr<const CheckpointLayer>> layouts;
  std::set<std::string> looked_at;
  for (const LayerAddressing& addressing : addressings) {
    ENGRAM_ASSIGN_OR_RETURN(CheckpointLayer layout,
                            LayOutStatedLayer(model, addressing, options.on_note));
    layouts.push_back(std::make_unique<const CheckpointLayer>(std::move(layout)));
    WarnOfOddBytes(*model.checkpoint, *layouts.back(), options.on_note, looked_at);
  }
  ENGRAM_ASSIGN_OR_RETURN(const std::unique_ptr<BlobDigests> digests,
                          BlobDigests::Begin(BlobsOf(layouts)));
  std::vector<LayerRows> layers;
  for (size_t i = 0; i < layouts.size(); ++i) {
    const CheckpointLayer& layer = *layouts[i];
    layers.push_back({SpecOf(addressings[i], layer), [&layer, &digests]() -> RowFill {
                        auto reader = std::make_shared<RowReader>(layer, *digests);
                        return [reader](RowId first_row, absl::Span<std::byte> rows) {
                          return reader->Fill(first_row, rows);
                        };
                      }});
  }
  if (options.on_note) {
    for (const std::string& note : model.notes) options.on_note(absl::StrCat("note: ", note));
  }
  absl::StatusOr<Manifest> written = WriteTableSet(model.family, options, model.scheme, layers,
                                                   [&digests] { return digests->Wait(); });
  // The rows ended for the digest's sake: it has the reason.
  if (!written.ok() && digests->failed()) return digests->Wait();
  return written;
}

}  // namespace engram
