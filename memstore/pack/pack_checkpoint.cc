#include "memstore/pack/pack_checkpoint.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/checkpoint_scheme.h"
#include "memstore/safetensors/blob_digests.h"
#include "memstore/safetensors/checkpoint_files.h"
#include "memstore/table/joined_rows.h"

namespace engram {
namespace {

// Where a layer's rows lie, without the tensors' names.
JoinedRows RowsOf(const CheckpointLayer& layer) {
  JoinedRows rows;
  const auto add = [&rows](const std::vector<RowRun>& runs, uint32_t row_bytes) {
    if (runs.empty()) return;
    RowPart part;
    part.row_bytes = row_bytes;
    for (const RowRun& run : runs) {
      part.pieces.push_back({run.tensor->file, run.tensor->offset, run.first_row, run.rows});
    }
    rows.parts.push_back(std::move(part));
  };
  add(layer.weights, layer.weight_bytes);
  add(layer.scales, layer.scale_bytes);
  return rows;
}

// One thread's way from tensors to rows, which ends early when a file turns out to be damaged: the
// digests' own error says which one.
RowFill FillFrom(const JoinedRows& rows, const BlobDigests& digests) {
  auto reader = std::make_shared<JoinedRowReader>(rows);
  return [reader, &digests](RowId first_row, absl::Span<std::byte> out) -> absl::Status {
    if (digests.failed()) return absl::AbortedError("a file of the checkpoint is damaged");
    return reader->Read(first_row, out);
  };
}

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
  std::vector<JoinedRows> joined;
  for (const auto& layout : layouts) joined.push_back(RowsOf(*layout));
  std::vector<LayerRows> layers;
  for (size_t i = 0; i < layouts.size(); ++i) {
    layers.push_back({SpecOf(addressings[i], *layouts[i]),
                      [&rows = joined[i], &digests] { return FillFrom(rows, *digests); }});
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
