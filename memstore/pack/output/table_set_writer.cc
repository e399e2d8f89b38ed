#include "memstore/pack/output/table_set_writer.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "memstore/base/check.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/direct_file.h"
#include "memstore/pack/output/found_shards.h"
#include "memstore/pack/output/source_identity.h"
#include "memstore/table/side_file.h"

namespace engram {
namespace {

constexpr absl::string_view kPlanHead = "engram-pack-plan 1\nsource ";
// In the partial directory, until the set is published. No name that a set's file could have.
constexpr char kPlanFile[] = ".plan";
// Manifests are bounded, and so are sources: a path and some numbers a file.
constexpr uint64_t kMaxPlanBytes = 2 * kMaxManifestBytes + (64u << 20);

// All that decides which bytes each shard has: the manifest but for its name and digests, and the
// source of the rows.
absl::StatusOr<std::string> PlanText(const AddressScheme& scheme,
                                     const std::vector<LayerTableSpec>& layers,
                                     const TableSetWriterOptions& options) {
  Manifest manifest;
  manifest.name = "plan";
  manifest.scheme = scheme;
  manifest.layers = layers;
  for (LayerTableSpec& layer : manifest.layers) {
    PlanShards(options.shard_bytes, layer);
    for (ShardSpec& shard : layer.shards) shard.checksum_file_sha256 = std::string(64, '0');
  }
  ENGRAM_ASSIGN_OR_RETURN(const Manifest finished, FinishManifest(std::move(manifest)));
  return absl::StrCat(kPlanHead, options.source_identity.size(), "\n", options.source_identity,
                      "\n", finished.text);
}

// What of the plan's source is not as it is now: " (FILE: it has another size)", or nothing.
std::string OfSource(absl::string_view plan, absl::string_view now) {
  size_t bytes = 0;
  const bool is_plan = absl::ConsumePrefix(&plan, kPlanHead) &&
                       absl::SimpleAtoi(plan.substr(0, plan.find('\n')), &bytes);
  if (!is_plan) return "";
  plan.remove_prefix(std::min(plan.find('\n') + 1, plan.size()));
  const std::string changed = ChangedFile(plan.substr(0, bytes), now);
  return changed.empty() ? "" : absl::StrCat(" (", changed, ")");
}

// Whether there was a plan, and whether it was this one.
enum class PlanFound { kNone, kSame, kOther };

// `text`: the plan that was found, where it could be read.
PlanFound LookForPlan(const std::string& path, const std::string& plan, std::string* text) {
  absl::StatusOr<std::string> found = ReadWholeFile(path, kMaxPlanBytes);
  if (absl::IsNotFound(found.status())) return PlanFound::kNone;
  if (found.ok()) *text = *std::move(found);
  return *text == plan ? PlanFound::kSame : PlanFound::kOther;
}

}  // namespace

absl::StatusOr<TableSetWriter> TableSetWriter::Begin(const std::string& output,
                                                     const TableSetWriterOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(StagingDirectory staging, StagingDirectory::Begin(output));
  return TableSetWriter(std::move(staging), options);
}

void TableSetWriter::Note(const std::string& line) const {
  if (options_.on_note) options_.on_note(absl::StrCat("note: ", line));
}

absl::Status TableSetWriter::Plan(const AddressScheme& scheme,
                                  const std::vector<LayerTableSpec>& layers) {
  planned_ = true;
  const std::string path = JoinPath(staging_.path(), kPlanFile);
  const bool resumable =
      staging_.resumable() && !options_.source_identity.empty() && !options_.rows_stay;
  ENGRAM_ASSIGN_OR_RETURN(const std::string plan, PlanText(scheme, layers, options_));
  std::string other;
  const PlanFound found = resumable ? LookForPlan(path, plan, &other) : PlanFound::kNone;
  std::set<std::string> keep;
  size_t shards = 0;
  if (found == PlanFound::kSame) {
    keep.insert(kPlanFile);
    for (LayerTableSpec layer : layers) {
      PlanShards(options_.shard_bytes, layer);
      shards += layer.shards.size();
      for (const ShardSpec& shard : layer.shards) {
        if (!MayBeWhole(staging_.path(), shard)) continue;
        keep.insert({shard.file, shard.checksum_file});
        found_.insert(shard.file);
        found_bytes_ += shard.file_bytes;
      }
    }
  }
  if (found == PlanFound::kOther) {
    Note(absl::StrCat(staging_.path(), " is of a run with another source or other settings",
                      OfSource(other, options_.source_identity), ": begun anew"));
  }
  ENGRAM_RETURN_IF_ERROR(staging_.RemoveAllBut(keep));
  if (resumable && found != PlanFound::kSame) {
    ENGRAM_RETURN_IF_ERROR(WriteNewFileDurably(path, plan));
  }
  // Also when this run finds no room, say.
  staging_.set_stays(!found_.empty());
  if (!found_.empty()) {
    Note(absl::StrCat("goes on with ", staging_.path(), ": ", found_.size(), " of ", shards,
                      " shards ", found_.size() == 1 ? "is" : "are",
                      " finished; what is there is read again, and kept where it is whole"));
  }
  if (options_.on_begin) options_.on_begin(staging_.path(), resumable);
  return absl::OkStatus();
}

absl::Status TableSetWriter::CheckRoom(uint64_t bytes) const {
  // Checksums are a thousandth of the rows.
  if (options_.rows_stay) return absl::OkStatus();
  struct statvfs fs;
  if (statvfs(staging_.path().c_str(), &fs) != 0) return PosixError("look at", staging_.path());
  const uint64_t free_bytes = static_cast<uint64_t>(fs.f_bavail) * fs.f_frsize;
  if (free_bytes >= bytes - std::min(bytes, found_bytes_)) return absl::OkStatus();
  const std::string of_these =
      found_bytes_ > 0 ? absl::StrCat(", ", found_bytes_, " of these are there") : "";
  return absl::ResourceExhaustedError(absl::StrCat(
      "the table set takes ", bytes, " bytes", of_these, ", the device of ", staging_.path(),
      " has ", free_bytes, " free: make room or choose another output"));
}

absl::Status TableSetWriter::AddTokenMap(absl::string_view bytes) {
  ENGRAM_CHECK(planned_, "something is added to a table set that has no plan");
  return WriteNewFileDurably(JoinPath(staging_.path(), kTokenMapFile), bytes);
}

absl::Status TableSetWriter::AddSideFile(absl::string_view name, absl::string_view kind,
                                         std::string body) {
  ENGRAM_RETURN_IF_ERROR(CheckPlainName(name, "the side file's name"));
  if (!absl::EndsWith(name, kSideFileSuffix) || kind.empty() ||
      kind.size() > kMaxSideFileKindBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the name ", name, " of a side file must end in ", kSideFileSuffix, ", and its kind \"",
        kind, "\" have 1 to ", kMaxSideFileKindBytes, " letters"));
  }
  side_files_.push_back({std::string(name), std::string(kind), std::move(body)});
  return absl::OkStatus();
}

absl::Status TableSetWriter::AddLayer(LayerTableSpec layer, const RowFillFactory& factory,
                                      ProgressCount& progress) {
  ENGRAM_CHECK(planned_, "something is added to a table set that has no plan");
  PlanShards(options_.shard_bytes, layer);
  LayerWriter writer(staging_.path(), std::move(layer),
                     {options_.shard_bytes, options_.page_checksums, options_.rows_stay});
  absl::Status status = KeepWhole(writer, progress);
  if (status.ok()) status = WriteLayer(writer, factory, progress);
  finished_ += writer.finished();
  if (!status.ok()) return Ended(std::move(status), !writer.input_failed() && finished_ > 0);
  for (PendingSideFile& side_file : writer.TakeSideFiles()) {
    pending_.push_back(std::move(side_file));
  }
  layers_.push_back(writer.TakeLayer());
  return absl::OkStatus();
}

std::vector<size_t> TableSetWriter::Found(const LayerTableSpec& layer) const {
  std::vector<size_t> shards;
  for (size_t i = 0; i < layer.shards.size(); ++i) {
    if (found_.count(layer.shards[i].file) > 0) shards.push_back(i);
  }
  return shards;
}

absl::Status TableSetWriter::KeepWhole(LayerWriter& writer, ProgressCount& progress) {
  const LayerTableSpec& layer = writer.layer();
  const std::vector<size_t> found = Found(layer);
  if (found.empty()) return absl::OkStatus();
  FoundShards shards(staging_.path(), layer, writer.units(), found, options_.page_checksums);
  ENGRAM_RETURN_IF_ERROR(
      DoInOrder(shards.units(), ChooseTableThreads(options_.threads), [&]() -> Worker {
        auto buffer = std::make_shared<PageBuffer>();
        return [&shards, &progress, buffer](uint64_t unit) -> absl::Status {
          ENGRAM_ASSIGN_OR_RETURN(const uint64_t whole, shards.CheckUnit(unit, *buffer));
          if (whole > 0) progress.Add(whole);
          return absl::OkStatus();
        };
      }));
  std::set<size_t> damaged(found.begin(), found.end());
  for (FinishedShard& shard : shards.TakeWhole()) {
    damaged.erase(shard.shard);
    writer.Keep(std::move(shard));
  }
  for (const size_t shard : damaged) {
    for (const std::string& file : {layer.shards[shard].file, layer.shards[shard].checksum_file}) {
      const std::string path = JoinPath(staging_.path(), file);
      if (unlink(path.c_str()) != 0) return PosixError("remove", path);
    }
    Note(absl::StrCat(layer.shards[shard].file, " of the earlier run is not whole: written anew"));
  }
  return absl::OkStatus();
}

absl::Status TableSetWriter::WriteLayer(LayerWriter& writer, const RowFillFactory& factory,
                                        ProgressCount& progress) {
  const std::vector<uint64_t> units = writer.UnitsToWrite();
  return DoInOrder(units.size(), ChooseTableThreads(options_.threads), [&]() -> Worker {
    auto buffer = std::make_shared<PageBuffer>();
    return [&writer, &units, &progress, buffer, fill = factory()](uint64_t i) {
      absl::Status written = writer.WriteUnit(units[i], fill, *buffer);
      if (written.ok()) progress.Add(writer.units().At(units[i]).row_bytes);
      return written;
    };
  });
}

absl::Status TableSetWriter::Ended(absl::Status status, bool stays) {
  staging_.set_stays(stays && !options_.source_identity.empty() && !options_.rows_stay);
  if (!staging_.stays()) return status;
  return absl::Status(
      status.code(), absl::StrCat(status.message(), "; what is finished stays in ", staging_.path(),
                                  ": the same command goes on from there"));
}

absl::Status TableSetWriter::WriteSideFiles(const std::string& set_id) const {
  for (const PendingSideFile& pending : pending_) {
    ENGRAM_RETURN_IF_ERROR(CompleteSideFile(staging_.path(), pending, set_id));
  }
  for (const SideFileText& side_file : side_files_) {
    ENGRAM_RETURN_IF_ERROR(WriteSideFile(JoinPath(staging_.path(), side_file.name), side_file.kind,
                                         set_id, side_file.body));
  }
  return absl::OkStatus();
}

absl::StatusOr<Manifest> TableSetWriter::Publish(const std::string& name,
                                                 const AddressScheme& scheme) {
  Manifest manifest;
  manifest.name = name;
  manifest.scheme = scheme;
  manifest.layers = layers_;
  ENGRAM_ASSIGN_OR_RETURN(Manifest finished, FinishManifest(std::move(manifest)));
  absl::Status status = WriteSideFiles(finished.id);
  if (status.ok()) {
    status = WriteNewFileDurably(JoinPath(staging_.path(), kManifestFile), finished.text);
  }
  if (status.ok()) {
    status = WriteNewFileDurably(JoinPath(staging_.path(), kManifestDigestFile),
                                 absl::StrCat(finished.id, "\n"));
  }
  if (!status.ok()) return Ended(std::move(status), finished_ > 0);
  // From here on it can't be gone on with. A run that is killed just now begins anew.
  staging_.set_stays(false);
  const std::string plan = JoinPath(staging_.path(), kPlanFile);
  if (unlink(plan.c_str()) != 0 && errno != ENOENT) return PosixError("remove", plan);
  ENGRAM_RETURN_IF_ERROR(staging_.Publish());
  return finished;
}

}  // namespace engram
