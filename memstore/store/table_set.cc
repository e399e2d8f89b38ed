#include "memstore/store/table_set.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/human_units.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/store/available_memory.h"
#include "memstore/store/row_loader.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/set_directory.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

// Room for what is held of each layer's rows and the padding of its last shard. Nothing of it is
// resident yet.
absl::StatusOr<std::vector<Arena>> MapArenas(const Manifest& manifest,
                                             absl::Span<const HeldLayer> held,
                                             ArenaOptions options) {
  std::vector<Arena> arenas;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    const uint64_t bytes = ShardFileBytes(layer.rows, layer.row_bytes) - kShardHeaderBytes;
    absl::StatusOr<Arena> arena = Arena::Map(bytes, HeldPieces(layer, held[i]), options);
    if (!arena.ok()) return arena.status();
    if (arena->page_kind() == PageKind::kHugetlb2M) {
      options.promised_hugetlb_bytes += arena->held_bytes();
    }
    arenas.push_back(*std::move(arena));
  }
  return arenas;
}

uint64_t TokenMapBytes(const AddressScheme& scheme) {
  return scheme.token_map ? uint64_t{scheme.vocab_size} * sizeof(int32_t) : 0;
}

// Reserved huge pages are set aside already.
uint64_t UnreservedBytes(const std::vector<Arena>& arenas) {
  uint64_t bytes = 0;
  for (const Arena& arena : arenas) {
    if (arena.page_kind() != PageKind::kHugetlb2M) bytes += arena.held_bytes();
  }
  return bytes;
}

absl::Status CheckMemory(const Manifest& manifest, uint64_t needed, const LoadOptions& options) {
  const AvailableMemory available =
      options.available_memory_bytes
          ? AvailableMemory{*options.available_memory_bytes, "the limit that was set"}
          : ReadAvailableMemory();
  if (needed <= available.bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("table set ", manifest.name, " needs ", ExactBytes(needed), " of memory, ",
                   available.limited_by, " leaves ", ExactBytes(available.bytes),
                   "; free memory, raise the limit, serve a part of it (--partition), or pack the "
                   "table smaller (--rows-per-head)"));
}

// Before anything is touched: the kernel ends a process that takes more than there is.
absl::Status CheckMappedMemory(const Manifest& manifest, const std::vector<Arena>& arenas,
                               const LoadOptions& options) {
  // A map is there twice while it is read.
  const uint64_t map = TokenMapBytes(manifest.scheme);
  ENGRAM_RETURN_IF_ERROR(CheckMemory(manifest, UnreservedBytes(arenas) + 2 * map, options));
  if (!options.may_take) return absl::OkStatus();
  uint64_t bytes = map;
  for (const Arena& arena : arenas) bytes += arena.held_bytes();
  return options.may_take(bytes);
}

// By shard, none of one of which nothing is held; they match the manifest's digests whenever they
// are read.
absl::StatusOr<std::vector<std::vector<uint32_t>>> LoadLayerChecksums(const std::string& directory,
                                                                      const LayerTableSpec& layer,
                                                                      const HeldLayer& held) {
  std::vector<std::vector<uint32_t>> checksums;
  for (const ShardSpec& shard : layer.shards) {
    if (HeldBlocks(layer, shard, held).empty()) {
      checksums.emplace_back();
      continue;
    }
    absl::StatusOr<std::vector<uint32_t>> words = LoadChecksums(directory, layer, shard);
    if (!words.ok()) return words.status();
    checksums.push_back(*std::move(words));
  }
  return checksums;
}

}  // namespace

GatherTable LongestHeld(const GatherTable& table, const HeldLayer& held) {
  GatherTable longest = table;
  longest.rows = 0;
  for (const RowRange& range : held.ranges) {
    if (range.rows <= longest.rows) continue;
    longest.base = table.base + range.first * table.row_bytes;
    longest.first_row = range.first;
    longest.rows = range.rows;
  }
  return longest;
}

uint64_t MostResidentBytes(const Manifest& manifest, absl::Span<const HeldLayer> held) {
  uint64_t bytes = TokenMapBytes(manifest.scheme);
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    bytes += BytesOf(InWholePages(HeldPieces(manifest.layers[i], held[i]), kHugePageBytes));
  }
  return bytes;
}

absl::StatusOr<std::shared_ptr<const TableSet>> TableSet::Load(const std::string& directory,
                                                               const LoadOptions& options) {
  std::shared_ptr<TableSet> set(new TableSet);
  set->directory_ = directory;
  absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return manifest.status();
  set->manifest_ = *std::move(manifest);
  absl::Status status = CheckSetDirectory(directory, set->manifest_);
  if (!status.ok()) return status;
  ENGRAM_ASSIGN_OR_RETURN(set->held_, HeldBy(options.partition, set->manifest_));
  absl::StatusOr<std::vector<Arena>> arenas = MapArenas(set->manifest_, set->held_, options.arena);
  if (absl::IsResourceExhausted(arenas.status())) {
    // A mapping larger than the machine is refused at once: what helps to know is both sizes.
    absl::Status memory = CheckMemory(set->manifest_, set->held_row_bytes(), options);
    if (!memory.ok()) return memory;
  }
  if (!arenas.ok()) return arenas.status();
  ENGRAM_RETURN_IF_ERROR(CheckMappedMemory(set->manifest_, *arenas, options));
  ENGRAM_ASSIGN_OR_RETURN(set->side_files_,
                          LoadSideFiles(directory, options.side_file_directory, set->manifest_));
  ENGRAM_ASSIGN_OR_RETURN(const auto links,
                          TakeLinkedRows(directory, set->manifest_, set->side_files_));
  if (links) ENGRAM_RETURN_IF_ERROR(CheckLinkedFiles(*links));
  ENGRAM_RETURN_IF_ERROR(set->LoadAddressers());
  ProgressFunction progress;
  if (options.on_progress) {
    progress = [&options](uint64_t done, uint64_t total) { options.on_progress({done, total}); };
  }
  status = LoadRows(directory, set->manifest_, set->held_, links ? &*links : nullptr,
                    absl::MakeSpan(*arenas), ChooseLoadThreads(options.threads), progress,
                    options.cancelled);
  if (!status.ok()) return status;

  for (Arena& arena : *arenas) arena.CollapseRest(options.cancelled);
  ENGRAM_RETURN_IF_ERROR(set->TakeLayers(*std::move(arenas)));
  set->Calibrate(options);
  std::vector<GatherTable> tables;
  for (const LoadedLayer& layer : set->layers_) tables.push_back(layer.table);
  set->row_source_ = options.make_row_source
                         ? options.make_row_source(std::move(tables))
                         : std::make_unique<ResidentRows>(std::move(tables), set->held_);
  return std::shared_ptr<const TableSet>(std::move(set));
}

// One look at the kernel's books for all layers.
void TableSet::CountPages(std::vector<Arena>& arenas) {
  std::vector<AddressRange> ranges;
  ranges.reserve(arenas.size());
  for (const Arena& arena : arenas) ranges.push_back(arena.range());
  const absl::StatusOr<std::vector<ResidentPages>> counted = ReadResidentPages(ranges);
  for (size_t i = 0; i < arenas.size(); ++i) {
    if (counted.ok()) {
      arenas[i].ConfirmPageKind((*counted)[i]);
      loaded_pages_ += (*counted)[i];
      continue;
    }
    const PageKind kind = arenas[i].page_kind();
    ResidentPages taken;
    (kind == PageKind::kHugetlb2M         ? taken.hugetlb
     : kind == PageKind::kTransparentHuge ? taken.transparent_huge
                                          : taken.small) = arenas[i].held_bytes();
    loaded_pages_ += taken;
  }
}

// Both have one token map.
absl::Status TableSet::LoadAddressers() {
  const AddressScheme& scheme = manifest_.scheme;
  const ShortSetId id = ShortSetId::Of(manifest_.id);
  ENGRAM_ASSIGN_OR_RETURN(
      addresser_,
      Addresser::Load(scheme, scheme.token_map ? JoinPath(directory_, scheme.token_map->file) : "",
                      id, side_files_.image_token_ids));
  image_taking_addresser_ = addresser_;
  if (addresser_->image_token_ids().empty()) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(image_taking_addresser_,
                          Addresser::Create(scheme, addresser_->token_map(), id));
  return absl::OkStatus();
}

// Loaded and verified: from here on their memory is read alone.
absl::Status TableSet::TakeLayers(std::vector<Arena> arenas) {
  CountPages(arenas);
  for (size_t i = 0; i < arenas.size(); ++i) {
    const LayerTableSpec& layer = manifest_.layers[i];
    ENGRAM_RETURN_IF_ERROR(arenas[i].Seal());
    layers_.push_back({layer.layer, {arenas[i].data(), layer.rows, layer.row_bytes}});
    auto checksums = LoadLayerChecksums(directory_, layer, held_[i]);
    if (!checksums.ok()) return checksums.status();
    checksums_.push_back(*std::move(checksums));
  }
  arenas_ = std::move(arenas);
  return absl::OkStatus();
}

// The first layer of each width and kind of page is measured for all of them.
void TableSet::Calibrate(const LoadOptions& options) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    GatherTable& table = layers_[i].table;
    const GatherTable measured = LongestHeld(table, held_[i]);
    if (measured.rows == 0) continue;
    const PageKind page_kind = arenas_[i].page_kind();
    auto found = std::find_if(
        calibrations_.begin(), calibrations_.end(), [&](const WidthCalibration& calibration) {
          return calibration.row_bytes == table.row_bytes && calibration.page_kind == page_kind;
        });
    if (found == calibrations_.end()) {
      const GatherCalibration gather = options.gather_ahead_rows != 0
                                           ? GivenAhead(table, options.gather_ahead_rows)
                                           : CalibrateGather(measured, *options.clock);
      found = calibrations_.insert(found, {table.row_bytes, page_kind, gather});
    }
    table.ahead_rows = found->gather.ahead_rows;
  }
}

TableSet::~TableSet() = default;

const LoadedLayer* TableSet::FindLayer(uint32_t layer) const {
  for (const LoadedLayer& loaded : layers_) {
    if (loaded.layer == layer) return &loaded;
  }
  return nullptr;
}

uint64_t TableSet::resident_bytes() const {
  uint64_t bytes = 0;
  for (const Arena& arena : arenas_) bytes += arena.held_bytes();
  return bytes;
}

std::vector<AddressRange> TableSet::page_ranges() const {
  std::vector<AddressRange> ranges;
  for (const Arena& arena : arenas_) ranges.push_back(arena.range());
  return ranges;
}

PageKind TableSet::page_kind() const {
  PageKind kind = PageKind::kHugetlb2M;
  for (const Arena& arena : arenas_) kind = std::max(kind, arena.page_kind());
  return kind;
}

absl::Status CheckResident(const TableSet& set, absl::string_view way) {
  if (set.row_source().resident()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "table set ", set.name(), " (", set.id(), ") is not served ", way,
      ": its rows are brought to memory as they are asked for, which this way does not do: attach "
      "over gRPC (HOST:PORT or unix:PATH)"));
}

}  // namespace engram
