// A table set loaded into memory, verified, ready to be gathered from.
//
// Immutable after Load; shared between threads through shared_ptr<const TableSet>, and a batch that
// holds one keeps its memory alive: that is its pin. Each layer's rows lie in one contiguous run of
// memory (huge pages where there are any), read from the shards, or from where a linked set's rows
// lie, in parallel with every checksum verified on the way; a set with one wrong byte is never
// returned. Of a partition only the blocks that have its rows in them are read and are memory
// (held_blocks.h); row r still lies at base + r * row_bytes, and reading one that is not held ends
// the process, so whoever gathers checks ids first (CheckHeldRows).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/addresser.h"
#include "memstore/base/clock.h"
#include "memstore/gather/gather.h"
#include "memstore/gather/gather_tuning.h"
#include "memstore/partition/partition.h"
#include "memstore/store/arena.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/resident_pages.h"
#include "memstore/store/row_source.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_files.h"

namespace engram {

// Of the shards' bytes that are read, headers left out, padding counted.
struct LoadProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct LoadOptions {
  uint32_t threads = 0;  // readers and verifiers; 0: as many as keep a device busy
  ArenaOptions arena;
  // The part to load; nothing: all of the set.
  std::optional<Partition> partition;
  // Where side files of the set may lie beside those in its own directory; empty: nowhere.
  std::string side_file_directory;
  // The memory that may be taken; without it the kernel is asked what is available.
  std::optional<uint64_t> available_memory_bytes;
  // Asked before any of the memory is taken and any file of a table's size is read: whether the set
  // may take so many bytes, its rows in whole pages of the kind that they will lie on, and its
  // token map. What it refuses with, Load ends with. Empty: nobody is asked.
  std::function<absl::Status(uint64_t bytes)> may_take;
  // Called by the threads that load, one at a time, now and then: what would come while another
  // call is under way is left out, never waited for. `bytes_done` does not shrink; it is told when
  // it reaches `bytes_total`, which a set that is refused may never do.
  std::function<void(const LoadProgress&)> on_progress;
  // Asked by the threads that load, between blocks; true: Load ends with CANCELLED. Thread-safe.
  std::function<bool()> cancelled;
  // Makes what lookups take rows from, given the tables as loaded, which outlive it; empty: those
  // tables (ResidentRows). Of a partition's tables it may read no row that is not held.
  std::function<std::unique_ptr<const RowSource>(std::vector<GatherTable>)> make_row_source;
  // How many rows ahead the gather prefetches, 1..kMostAheadRows; 0: measured once the rows are in
  // memory, some tens of milliseconds for each row width.
  uint32_t gather_ahead_rows = 0;
  const Clock* clock = &RealClock();  // that measures it
};

struct LoadedLayer {
  uint32_t layer = 0;
  GatherTable table;
};

// The most that a set, or what is held of it (HeldBy), takes of memory: each run of blocks in whole
// huge pages, and the token map. Of many small layers it is a thousand times their rows.
uint64_t MostResidentBytes(const Manifest& manifest, absl::Span<const HeldLayer> held);

// The longest run of rows that is held of a table, on which its gather is measured; no rows where
// none are.
GatherTable LongestHeld(const GatherTable& table, const HeldLayer& held);

// How rows of one width, on pages of one kind, are gathered.
struct WidthCalibration {
  uint32_t row_bytes = 0;
  PageKind page_kind = PageKind::kSmall;
  GatherCalibration gather;
};

class TableSet {
 public:
  // NOT_FOUND: no such set, or a file of it is missing. DATA_LOSS: a digest, checksum, header or
  // size that does not match, a file that does not belong to the set or is a link, a place that
  // the device can't read; names file and block. FAILED_PRECONDITION: the token map is not the
  // manifest's, a side file is of another set, or a file that the set is linked to changed.
  // INVALID_ARGUMENT: the manifest contradicts itself, the set has not got the partition of the
  // options, or their NUMA node is not there. RESOURCE_EXHAUSTED: the table does not fit into the
  // memory that is available, with both sizes, or a thread can't be started. CANCELLED: the options
  // said so.
  static absl::StatusOr<std::shared_ptr<const TableSet>> Load(const std::string& directory,
                                                              const LoadOptions& options);
  ~TableSet();
  TableSet(const TableSet&) = delete;
  TableSet& operator=(const TableSet&) = delete;

  const std::string& id() const { return manifest_.id; }
  const std::string& name() const { return manifest_.name; }
  const std::string& directory() const { return directory_; }
  const Manifest& manifest() const { return manifest_; }
  // What the side files say that are there; each of them was checked.
  const SideFiles& side_files() const { return side_files_; }
  // Refuses image tokens that are not dead, where the side files say which they are.
  const Addresser& addresser() const { return *addresser_; }
  // Takes them as tokens like any other; the same as addresser() where none are known.
  const Addresser& image_taking_addresser() const { return *image_taking_addresser_; }
  const std::vector<LoadedLayer>& layers() const { return layers_; }
  const LoadedLayer* FindLayer(uint32_t layer) const;  // nullptr when there is none
  // The rows of each layer that are in memory, in the order of layers(), and their bytes.
  const std::vector<HeldLayer>& held() const { return held_; }
  uint64_t held_row_bytes() const { return HeldRowBytes(manifest_, held_); }
  // Where lookups take rows from.
  const RowSource& row_source() const { return *row_source_; }
  // The memory of layers()[i], for sending to other processes; its memfd is open when it was loaded
  // shareable.
  const Arena& arena(size_t i) const { return arenas_[i]; }
  // Of shard `shard` of layer `i`: [0] is the header's, [1..] are the blocks'; empty where nothing
  // of the shard is held. They lie in memory, so that rows can be verified again when the directory
  // is gone: four bytes a block, 1.5 MiB for 189 GiB as packed.
  absl::Span<const uint32_t> checksums(size_t i, size_t shard) const {
    return checksums_[i][shard];
  }
  // What its rows take of memory, in whole pages, and on which kind most of them lie; the smallest
  // kind where layers differ.
  uint64_t resident_bytes() const;
  PageKind page_kind() const;
  // What the kernel counted by kind of page when loading had ended. Where it counts nothing, all is
  // taken to lie on page_kind(). What it counts later: ReadResidentPages(page_ranges()).
  const ResidentPages& loaded_pages() const { return loaded_pages_; }
  std::vector<AddressRange> page_ranges() const;  // one a layer
  // What the layers' tables are gathered with (GatherTable::ahead_rows), one for each row width and
  // kind of page that there is, in the order of the layers; for log lines and metrics.
  const std::vector<WidthCalibration>& calibrations() const { return calibrations_; }

 private:
  TableSet() = default;
  absl::Status LoadAddressers();
  absl::Status TakeLayers(std::vector<Arena> arenas);
  void CountPages(std::vector<Arena>& arenas);
  void Calibrate(const LoadOptions& options);

  std::string directory_;
  Manifest manifest_;
  SideFiles side_files_;
  std::shared_ptr<const Addresser> addresser_;
  std::shared_ptr<const Addresser> image_taking_addresser_;
  std::vector<HeldLayer> held_;  // one a layer
  std::vector<Arena> arenas_;    // one a layer
  ResidentPages loaded_pages_;
  std::vector<LoadedLayer> layers_;
  std::unique_ptr<const RowSource> row_source_;
  std::vector<WidthCalibration> calibrations_;
  std::vector<std::vector<std::vector<uint32_t>>> checksums_;  // by layer and shard
};

// For those who gather from a set's tables by themselves, beside its row source (shared memory,
// RDMA), asked where a client attaches: FAILED_PRECONDITION names the set, `way` ("over RDMA") and
// what to use in its place when its rows are brought to memory as they are asked for
// (RowSource::resident).
absl::Status CheckResident(const TableSet& set, absl::string_view way);

}  // namespace engram
