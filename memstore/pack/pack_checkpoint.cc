#include "memstore/pack/pack_checkpoint.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/file_stamp.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/checkpoint_scheme.h"
#include "memstore/pack/linked_set.h"
#include "memstore/pack/named_rows.h"
#include "memstore/pack/output/source_identity.h"
#include "memstore/pack/provenance.h"
#include "memstore/recipe/image_token_ids.h"
#include "memstore/safetensors/blob_digests.h"
#include "memstore/safetensors/checkpoint_files.h"
#include "memstore/table/joined_rows.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/side_files.h"

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

// Those whose names give their digests: of scales and constants as much as of rows.
std::vector<Blob> BlobsOf(const FilesAsRead& files) {
  std::vector<Blob> blobs;
  for (const auto& [path, as_read] : files) {
    if (std::optional<Blob> blob = BlobOf(path)) blobs.push_back(*std::move(blob));
  }
  return blobs;
}

// Places, constants and rows are of the files as they were when their headers were read.
absl::Status CheckAsRead(const FilesAsRead& files) {
  for (const auto& [file, as_read] : files) {
    const absl::Status unchanged = CheckUnchanged(file, as_read);
    if (!absl::IsFailedPrecondition(unchanged)) {
      ENGRAM_RETURN_IF_ERROR(unchanged);
      continue;
    }
    return absl::FailedPreconditionError(
        absl::StrCat(unchanged.message(),
                     ", and the table set would be a mix of both: pack it again when nothing "
                     "changes it"));
  }
  return absl::OkStatus();
}

FilesAsRead FilesOfTensors(const Checkpoint& checkpoint) {
  FilesAsRead files;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    files.emplace(tensor.file, tensor.as_read);
  }
  for (const auto& [name, parts] : checkpoint.rank_parts()) {
    for (const TensorPlace& part : parts) files.emplace(part.file, part.as_read);
  }
  return files;
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

// All that is known of a set before a row is read.
struct Plan {
  CheckpointScheme model;
  std::vector<CheckpointLayer> layouts;
  std::vector<int32_t> image_token_ids;
  std::vector<SideFileText> side_files;
};

absl::StatusOr<Plan> MakePlan(const Family& family, const std::string& checkpoint,
                              const PackOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckCheckpointDirectory(checkpoint));
  Plan plan;
  ENGRAM_ASSIGN_OR_RETURN(plan.model, ReadCheckpointScheme(family, checkpoint, options));
  std::set<std::string> looked_at;
  for (const LayerAddressing& addressing : plan.model.scheme.scheme.layers) {
    ENGRAM_ASSIGN_OR_RETURN(
        CheckpointLayer layout,
        LayOutStatedLayer(plan.model, addressing, options.encoding, options.on_note));
    plan.layouts.push_back(std::move(layout));
    WarnOfOddBytes(plan.model.checkpoint->stray(), plan.layouts.back(), options.on_note, looked_at);
  }
  ENGRAM_ASSIGN_OR_RETURN(plan.image_token_ids, ReadImageTokenIds(checkpoint));
  // Where nothing says otherwise those of the family hold, as its constants do.
  if (plan.image_token_ids.empty() && !plan.model.is_compared) {
    plan.image_token_ids = plan.model.family.image_token_ids;
  }
  Provenance source = CheckpointProvenance(*plan.model.checkpoint, options);
  ENGRAM_ASSIGN_OR_RETURN(source.read_from,
                          FilesOf(checkpoint, plan.model.scheme.scheme, plan.layouts));
  plan.side_files = SourceSideFiles(source, plan.image_token_ids);
  return plan;
}

// Where the rows lie, by the checkpoint's own paths.
std::vector<LinkedLayer> PlacesOf(const AddressScheme& scheme,
                                  const std::vector<CheckpointLayer>& layouts) {
  std::vector<LinkedLayer> layers;
  for (size_t i = 0; i < layouts.size(); ++i) {
    layers.push_back({scheme.layers[i].layer, RowsOf(layouts[i])});
  }
  return layers;
}

absl::StatusOr<Manifest> CarryOut(const Plan& plan, const PackOptions& options) {
  if (options.on_note) {
    for (const std::string& note : plan.model.notes) options.on_note(absl::StrCat("note: ", note));
  }
  return PackLayers(plan.model.family, options, plan.model.scheme, plan.layouts, plan.side_files,
                    FilesOfTensors(*plan.model.checkpoint));
}

// The linked set at the output, where it is what `plan` would make; else why it isn't.
absl::StatusOr<Manifest> FindSet(const Plan& plan, const LinkedRows& links,
                                 const PackOptions& options) {
  const AddressScheme& scheme = plan.model.scheme.scheme;
  LinkedSetContent content{
      SetName(plan.model.family, options), scheme, {}, links, plan.image_token_ids};
  for (size_t i = 0; i < plan.layouts.size(); ++i) {
    content.layers.push_back(SpecOf(scheme.layers[i], plan.layouts[i]));
  }
  return FindLinkedSet(options.output, content);
}

// Whether it is the set's own content that is not as it should be. Anything else may pass: too many
// open files, a folder that may not be read.
bool IsOfContent(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsFailedPrecondition(status) ||
         absl::IsDataLoss(status) || absl::IsInvalidArgument(status);
}

}  // namespace

absl::StatusOr<Manifest> PackLayers(const Family& family, PackOptions options,
                                    const PackScheme& scheme,
                                    const std::vector<CheckpointLayer>& layouts,
                                    std::vector<SideFileText> side_files,
                                    const FilesAsRead& files) {
  const std::vector<LinkedLayer> places = PlacesOf(scheme.scheme, layouts);
  std::optional<LinkedRows> links;
  std::vector<JoinedRows> rows;
  rows.reserve(places.size());
  for (const LinkedLayer& layer : places) rows.push_back(layer.rows);
  if (options.link) {
    ENGRAM_ASSIGN_OR_RETURN(links, LinkRows(places));
    ENGRAM_ASSIGN_OR_RETURN(std::string body, LinksBody(*links));
    side_files.push_back({kLinksFile, kLinksKind, std::move(body)});
    options.writer.rows_stay = true;
    // A thousandth of the rows: too much for a set that is to be small.
    options.writer.page_checksums = false;
  } else {
    ENGRAM_ASSIGN_OR_RETURN(options.writer.source_identity, SourceIdentity(rows));
  }
  ENGRAM_ASSIGN_OR_RETURN(const std::unique_ptr<BlobDigests> digests,
                          BlobDigests::Begin(BlobsOf(files)));
  std::vector<LayerRows> layers;
  for (size_t i = 0; i < layouts.size(); ++i) {
    layers.push_back({SpecOf(scheme.scheme.layers[i], layouts[i]),
                      [&one = rows[i], &digests] { return FillFrom(one, *digests); }});
  }
  const auto may_publish = [&]() -> absl::Status {
    ENGRAM_RETURN_IF_ERROR(digests->Wait());
    return CheckAsRead(files);
  };
  absl::StatusOr<Manifest> written =
      WriteTableSet(family, options, scheme, layers, may_publish, side_files);
  // The rows ended for the digest's sake: it has the reason.
  if (!written.ok() && digests->failed()) return digests->Wait();
  return written;
}

absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(const Plan plan, MakePlan(family, checkpoint, options));
  return CarryOut(plan, options);
}

absl::StatusOr<uint64_t> CheckCheckpoint(const Family& family, const std::string& checkpoint,
                                         const PackOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(const Plan plan, MakePlan(family, checkpoint, options));
  const AddressScheme& scheme = plan.model.scheme.scheme;
  uint64_t bytes = 0;
  for (size_t i = 0; i < plan.layouts.size(); ++i) {
    bytes += scheme.layers[i].Rows() * plan.layouts[i].RowBytes();
  }
  return bytes;
}

absl::StatusOr<LinkedSet> FindOrLinkCheckpoint(const Family& family, const std::string& checkpoint,
                                               PackOptions options) {
  options.link = true;
  ENGRAM_ASSIGN_OR_RETURN(const Plan plan, MakePlan(family, checkpoint, options));
  ENGRAM_ASSIGN_OR_RETURN(const bool is_there, IsLinkedSet(options.output));
  if (is_there) {
    ENGRAM_ASSIGN_OR_RETURN(const LinkedRows links,
                            LinkRows(PlacesOf(plan.model.scheme.scheme, plan.layouts)));
    absl::StatusOr<Manifest> found = FindSet(plan, links, options);
    if (found.ok()) return LinkedSet{*std::move(found), /*kept=*/true};
    if (!IsOfContent(found.status())) {
      return absl::Status(found.status().code(),
                          absl::StrCat(found.status().message(), "; where that does not pass, ",
                                       "remove ", options.output, ": it is linked anew then"));
    }
    if (options.on_note) {
      options.on_note(absl::StrCat("note: linked anew: ", found.status().message()));
    }
    ENGRAM_RETURN_IF_ERROR(RemoveLinkedSet(options.output));
  }
  ENGRAM_ASSIGN_OR_RETURN(Manifest made, CarryOut(plan, options));
  return LinkedSet{std::move(made), /*kept=*/false};
}

}  // namespace engram
