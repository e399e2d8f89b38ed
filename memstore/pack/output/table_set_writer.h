// Writes a table set: token map, layers as shards with their checksums, manifest, side files; then
// it appears at once.
//
// Used by one thread, works with several. Rows are asked for from several threads at a time, a unit
// of a few megabytes each, and go to disk past the page cache, so memory is bounded whatever the
// set's size. Errors name the file; after one the writer can only be destroyed.
//
// What a killed run left is gone on with by one that has the same plan: shards that are whole and
// verified are kept. A writer that ends by an error leaves finished shards behind for that where
// the output was the reason (a full device, a limit), and says so in the error. It leaves nothing
// where the rows could not be made: then the input has to change, and so does the plan; nor where
// nobody could go on with it (StagingDirectory::resumable).
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/scheme.h"
#include "memstore/os/ordered_work.h"
#include "memstore/pack/output/layer_writer.h"
#include "memstore/pack/output/staging_directory.h"
#include "memstore/table/manifest.h"

namespace engram {

// Of rows in a shard: a file that is copied and checked in seconds; V4.1 has some 190 of them.
inline constexpr uint64_t kTargetShardBytes = uint64_t{1} << 30;

struct TableSetWriterOptions {
  uint64_t shard_bytes = kTargetShardBytes;
  uint32_t threads = 0;  // 0: chosen from the cores
  // A side file a shard with the CRC32C of each of its pages.
  bool page_checksums = true;
  // The set links to rows that lie elsewhere: everything is as ever, the manifest byte for byte,
  // but no shard file is written.
  bool rows_stay = false;
  // What tells the rows' source from any other and from itself as it was before a change, byte for
  // byte: its files with size, time and header's digest, say. Empty: nothing is gone on with.
  std::string source_identity;
  // Called by Plan and AddLayer, by one thread, with a line for the user. May be empty.
  std::function<void(const std::string& line)> on_note;
  // Called by Plan before anything is written: where, and whether a run with the same plan would go
  // on with it. May be empty.
  std::function<void(const std::string& partial, bool resumable)> on_begin;
};

// Called by the threads that will use what it makes, several at a time.
using RowFillFactory = std::function<RowFill()>;

class TableSetWriter {
 public:
  // Errors of StagingDirectory::Begin.
  static absl::StatusOr<TableSetWriter> Begin(const std::string& output,
                                              const TableSetWriterOptions& options);

  // What will be added; nothing is before it. Of what a killed run with the same plan left, what
  // may be whole stays until AddLayer has read it; all else is removed. `layers` without their
  // shards.
  absl::Status Plan(const AddressScheme& scheme, const std::vector<LayerTableSpec>& layers);
  // RESOURCE_EXHAUSTED when the device of the output has less room than what is missing of this.
  absl::Status CheckRoom(uint64_t bytes) const;
  absl::Status AddTokenMap(absl::string_view bytes);
  // A side file of the set: kept, and written when the set is published and has its id.
  // INVALID_ARGUMENT: no name or kind that side files have (memstore/table/side_file.h).
  absl::Status AddSideFile(absl::string_view name, absl::string_view kind, std::string body);
  // `layer` without its shards, which this decides. `progress` counts bytes of rows.
  absl::Status AddLayer(LayerTableSpec layer, const RowFillFactory& factory,
                        ProgressCount& progress);
  // What is written is not what it should be: it will not stay.
  void Discard() { staging_.set_stays(false); }
  // The set with the layers added. Nothing can be added after it.
  absl::StatusOr<Manifest> Publish(const std::string& name, const AddressScheme& scheme);

 private:
  TableSetWriter(StagingDirectory staging, const TableSetWriterOptions& options)
      : staging_(std::move(staging)), options_(options) {}

  struct SideFileText {
    std::string name;
    std::string kind;
    std::string body;
  };
  // Shards of the layer that may be whole.
  std::vector<size_t> Found(const LayerTableSpec& layer) const;
  // Reads them, and keeps or removes each.
  absl::Status KeepWhole(LayerWriter& writer, ProgressCount& progress);
  absl::Status WriteLayer(LayerWriter& writer, const RowFillFactory& factory,
                          ProgressCount& progress);
  absl::Status WriteSideFiles(const std::string& set_id) const;
  // Decides whether what is written stays, and adds it to the error.
  absl::Status Ended(absl::Status status, bool stays);
  void Note(const std::string& line) const;

  StagingDirectory staging_;
  TableSetWriterOptions options_;
  bool planned_ = false;
  std::set<std::string> found_;  // shard files that may be whole
  uint64_t found_bytes_ = 0;
  size_t finished_ = 0;  // shards, of the layers so far
  std::vector<LayerTableSpec> layers_;
  std::vector<PendingSideFile> pending_;  // of the layers' shards
  std::vector<SideFileText> side_files_;
};

}  // namespace engram
