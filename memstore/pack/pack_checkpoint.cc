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
#include "memstore/pack/named_rows.h"
#include "memstore/pack/provenance.h"
#include "memstore/pack/source_identity.h"
#include "memstore/recipe/image_token_ids.h"
#include "memstore/safetensors/blob_digests.h"
#include "memstore/safetensors/checkpoint_files.h"
#include "memstore/table/joined_rows.h"

namespace engram {
namespace {

// Where a layer's rows lie, without the tensors' names.
JoinedRows RowsOf(const CheckpointLayer& layer) {
  JoinedRows rows;
  for (const LayerPart& from : layer.parts) {
    RowPart part;
    part.row_bytes = from.row_bytes;
    for (const RowRun& run : from.runs) {
      part.pieces.push_back({run.tensor->file, run.tensor->offset, run.first_row, run.rows});
    }
    rows.parts.push_back(std::move(part));
  }
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
std::vector<Blob> BlobsOf(const std::vector<CheckpointLayer>& layers) {
  std::map<std::string, Blob> blobs;
  for (const CheckpointLayer& layer : layers) {
    for (const LayerPart& part : layer.parts) {
      for (const RowRun& run : part.runs) {
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
  spec.row_bytes = layer.RowBytes();
  spec.encoding = layer.encoding;
  return spec;
}

absl::StatusOr<CheckpointLayer> LayOutStatedLayer(const CheckpointScheme& model,
                                                  const LayerAddressing& addressing,
                                                  const std::string& encoding,
                                                  const NoteFunction& note) {
  absl::StatusOr<CheckpointLayer> layout =
      model.rows.names().empty()
          ? LayOutLayer(model.family, addressing, *model.checkpoint, note)
          : LayOutNamedRows(model.rows, encoding, model.family, model.scheme.scheme, addressing,
                            SourceOf(*model.checkpoint), note);
  if (!layout.ok()) return WithDifferences(layout.status(), model);
  std::vector<uint64_t> piece_rows;
  const TensorPlace* before = nullptr;
  for (const RowRun& run : layout->parts[0].runs) {
    // The parts of ranks are cut by another rule.
    if (before != nullptr && before->name == run.tensor->name) return layout;
    before = run.tensor;
    piece_rows.push_back(run.tensor->shape[0]);
  }
  ENGRAM_RETURN_IF_ERROR(model.stated.CheckPieces(addressing.Rows(), piece_rows));
  return layout;
}

}  // namespace

absl::StatusOr<Manifest> PackLayers(const Family& family, const PackOptions& options,
                                    const PackScheme& scheme,
                                    const std::vector<CheckpointLayer>& layouts,
                                    const std::vector<SideFileText>& side_files) {
  const std::vector<LayerAddressing>& addressings = scheme.scheme.layers;
  ENGRAM_ASSIGN_OR_RETURN(const std::unique_ptr<BlobDigests> digests,
                          BlobDigests::Begin(BlobsOf(layouts)));
  std::vector<JoinedRows> joined;
  for (const CheckpointLayer& layout : layouts) joined.push_back(RowsOf(layout));
  std::vector<LayerRows> layers;
  for (size_t i = 0; i < layouts.size(); ++i) {
    layers.push_back({SpecOf(addressings[i], layouts[i]),
                      [&rows = joined[i], &digests] { return FillFrom(rows, *digests); }});
  }
  PackOptions resumable = options;
  ENGRAM_ASSIGN_OR_RETURN(resumable.writer.source_identity, SourceIdentity(joined));
  absl::StatusOr<Manifest> written = WriteTableSet(
      family, resumable, scheme, layers, [&digests] { return digests->Wait(); }, side_files);
  // The rows ended for the digest's sake: it has the reason.
  if (!written.ok() && digests->failed()) return digests->Wait();
  return written;
}

absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckCheckpointDirectory(checkpoint));
  ENGRAM_ASSIGN_OR_RETURN(const CheckpointScheme model,
                          ReadCheckpointScheme(family, checkpoint, options));
  std::vector<CheckpointLayer> layouts;
  std::set<std::string> looked_at;
  for (const LayerAddressing& addressing : model.scheme.scheme.layers) {
    ENGRAM_ASSIGN_OR_RETURN(
        CheckpointLayer layout,
        LayOutStatedLayer(model, addressing, options.encoding, options.on_note));
    layouts.push_back(std::move(layout));
    WarnOfOddBytes(model.checkpoint->stray(), layouts.back(), options.on_note, looked_at);
  }
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<int32_t> images, ReadImageTokenIds(checkpoint));
  if (options.on_note) {
    for (const std::string& note : model.notes) options.on_note(absl::StrCat("note: ", note));
  }
  return PackLayers(model.family, options, model.scheme, layouts,
                    SourceSideFiles(CheckpointProvenance(*model.checkpoint, options), images));
}

}  // namespace engram
