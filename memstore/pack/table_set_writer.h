// Writes a table set: token map, layers as shards with their checksums, manifest, side files; then
// it appears at once.
//
// Used by one thread, works with several. Rows are asked for from several threads at a time, a unit
// of a few megabytes each, and go to disk past the page cache, so memory is bounded whatever the
// set's size. Errors name the file; after one the writer can only be destroyed, which leaves
// nothing behind.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
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
};

// Called by the threads that will use what it makes, several at a time.
using RowFillFactory = std::function<RowFill()>;

class TableSetWriter {
 public:
  // Errors of StagingDirectory::Begin.
  static absl::StatusOr<TableSetWriter> Begin(const std::string& output,
                                              const TableSetWriterOptions& options);

  // RESOURCE_EXHAUSTED when the device of the output has less room than this.
  absl::Status CheckRoom(uint64_t bytes) const;
  absl::Status AddTokenMap(absl::string_view bytes);
  // A side file of the set: kept, and written when the set is published and has its id.
  // INVALID_ARGUMENT: no name or kind that side files have (memstore/table/side_file.h).
  absl::Status AddSideFile(absl::string_view name, absl::string_view kind, std::string body);
  // `layer` without its shards, which this decides. `progress` counts bytes of rows.
  absl::Status AddLayer(LayerTableSpec layer, const RowFillFactory& factory,
                        ProgressCount& progress);
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
  absl::Status WriteSideFiles(const std::string& set_id) const;

  StagingDirectory staging_;
  TableSetWriterOptions options_;
  std::vector<LayerTableSpec> layers_;
  std::vector<PendingSideFile> pending_;  // of the layers' shards
  std::vector<SideFileText> side_files_;
};

}  // namespace engram
