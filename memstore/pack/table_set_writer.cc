#include "memstore/pack/table_set_writer.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/direct_file.h"
#include "memstore/table/side_file.h"

namespace engram {
namespace {

// Puts the head over the room that was left for it.
absl::Status CompleteSideFile(const std::string& directory, const PendingSideFile& side_file,
                              absl::string_view set_id) {
  const std::string path = JoinPath(directory, side_file.file);
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_WRONLY));
  const std::string head =
      SideFileHead(side_file.kind, set_id, side_file.body_sha256, side_file.body_bytes);
  ENGRAM_RETURN_IF_ERROR(
      WriteFully(file, 0, {reinterpret_cast<const std::byte*>(head.data()), head.size()}, path));
  if (fsync(file.get()) != 0) return PosixError("sync", path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TableSetWriter> TableSetWriter::Begin(const std::string& output,
                                                     const TableSetWriterOptions& options) {
  absl::StatusOr<StagingDirectory> staging = StagingDirectory::Begin(output);
  if (!staging.ok()) return staging.status();
  return TableSetWriter(std::move(*staging), options);
}

absl::Status TableSetWriter::CheckRoom(uint64_t bytes) const {
  // Checksums are a thousandth of the rows.
  if (options_.rows_stay) return absl::OkStatus();
  struct statvfs fs;
  if (statvfs(staging_.path().c_str(), &fs) != 0) return PosixError("look at", staging_.path());
  const uint64_t free_bytes = static_cast<uint64_t>(fs.f_bavail) * fs.f_frsize;
  if (free_bytes >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the table set takes ", bytes, " bytes, the device of ", staging_.path(),
                   " has ", free_bytes, " free: make room or choose another output"));
}

absl::Status TableSetWriter::AddTokenMap(absl::string_view bytes) {
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
  PlanShards(options_.shard_bytes, layer);
  LayerWriter writer(staging_.path(), std::move(layer),
                     {options_.shard_bytes, options_.page_checksums, options_.rows_stay});
  ENGRAM_RETURN_IF_ERROR(
      DoInOrder(writer.units(), ChooseTableThreads(options_.threads), [&]() -> Worker {
        auto buffer = std::make_shared<PageBuffer>();
        return [&writer, &progress, buffer, fill = factory()](uint64_t unit) {
          absl::Status written = writer.WriteUnit(unit, fill, *buffer);
          if (written.ok()) progress.Add(writer.unit_bytes(unit));
          return written;
        };
      }));
  for (PendingSideFile& side_file : writer.TakeSideFiles()) {
    pending_.push_back(std::move(side_file));
  }
  layers_.push_back(writer.TakeLayer());
  return absl::OkStatus();
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
  ENGRAM_RETURN_IF_ERROR(WriteSideFiles(finished.id));
  ENGRAM_RETURN_IF_ERROR(
      WriteNewFileDurably(JoinPath(staging_.path(), kManifestFile), finished.text));
  ENGRAM_RETURN_IF_ERROR(WriteNewFileDurably(JoinPath(staging_.path(), kManifestDigestFile),
                                             absl::StrCat(finished.id, "\n")));
  ENGRAM_RETURN_IF_ERROR(staging_.Publish());
  return finished;
}

}  // namespace engram
