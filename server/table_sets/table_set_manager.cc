#include "server/table_sets/table_set_manager.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "memstore/store/held_blocks.h"
#include "memstore/table/manifest.h"
#include "memstore/table/set_directory.h"
#include "server/base/limits.h"
#include "server/base/log.h"
#include "server/table_sets/set_text.h"

namespace engram {
namespace {

// A set that nobody has any more is gone within this time.
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);
// Between lines that say how far loading is.
constexpr absl::Duration kLineInterval = absl::Seconds(2);

std::array<uint32_t, kLeaseKinds> Counts(const LeaseCounts& leases) {
  std::array<uint32_t, kLeaseKinds> counts{};
  for (size_t i = 0; i < kLeaseKinds; ++i) counts[i] = leases.of(static_cast<LeaseKind>(i));
  return counts;
}

std::vector<TableLayout> LayoutOf(const TableSet& set) {
  std::vector<TableLayout> layers;
  for (const LayerTableSpec& layer : set.manifest().layers) {
    layers.push_back({.layer = layer.layer,
                      .rows = layer.rows,
                      .row_bytes = layer.row_bytes,
                      .shards = layer.shards.size()});
  }
  return layers;
}

std::chrono::seconds WholeSeconds(absl::Duration span) {
  return std::chrono::seconds(absl::ToInt64Seconds(span));
}

// Of what the name of `id` led to, where that was another set.
std::string IdBefore(const TableSet* before, const std::string& id) {
  return before == nullptr || before->id() == id ? "" : before->id();
}

}  // namespace

// What can be said of a set whatever its state.
TableSetStatus TableSetManager::StatusOf(const TableSet& set, TableSetState state) const {
  return {.name = set.name(),
          .id = set.id(),
          .directory = set.directory(),
          .state = state,
          .resident_bytes = set.resident_bytes(),
          .held_bytes = set.held_row_bytes(),
          .table_bytes = set.manifest().TableBytes(),
          .held = HeldText(set.manifest(), set.held()),
          .page_kind = set.page_kind(),
          .pages = census_.Of(set),
          .layers = LayoutOf(set),
          .calibrations = set.calibrations(),
          .provenance = set.side_files().provenance};
}

absl::Status TableSetManager::Start() {
  absl::StatusOr<std::thread> thread = StartThread("engram-retire", [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

TableSetManager::~TableSetManager() {
  Cancel();
  {
    MutexLock lock(mutex_);
    ending_ = true;
    changed_.NotifyAll();
    while (publishing_) changed_.Wait(mutex_);
  }
  if (thread_.joinable()) thread_.join();
}

void TableSetManager::Run() {
  while (true) {
    RetireUnused();
    const MonotonicTime next = clock_->After(kLookInterval);
    MutexLock lock(mutex_);
    while (!ending_ && clock_->WaitUntil(changed_, mutex_, next)) {
    }
    if (ending_) return;
  }
}

// Superseded sets that nobody has, or whose grace is over, and retired ones whose memory is free.
void TableSetManager::RetireUnused() {
  const MonotonicTime now = clock_->Now();
  for (const RegisteredSet& registered : registry_->States()) {
    if (registered.current()) continue;
    const bool held =
        registered.served.leases->Total() > 0 ||
        (registered.was_acquired && now - registered.acquired < absl::FromChrono(kGrpcLease));
    if (held && now - registered.since < absl::FromChrono(options_.retire_grace)) continue;
    const TableSet& set = *registered.served.set;
    // It was fenced meanwhile, or taken back.
    if (!registry_->RetireSuperseded(set.id()).ok()) continue;
    options_.on_retire(set.id());
    LogEvent(*log_, spdlog::level::info, "retired",
             {{"table_set", set.name()}, {"table_set_id", set.id()}, {"was_held", held}},
             absl::StrCat("retired ", set.name(), " ", set.id(),
                          held ? ": the grace is over, and clients still had it" : ""));
    MutexLock lock(mutex_);
    leaving_.push_back({.set = registered.served.set,
                        .status = StatusOf(set, TableSetState::kRetiring),
                        .leases = registered.served.leases,
                        .since = now});
  }
  MutexLock lock(mutex_);
  for (auto at = leaving_.begin(); at != leaving_.end();) {
    // The endpoint holds it for each client that maps it, until that one closes its socket.
    if (!at->set.expired()) {
      ++at;
      continue;
    }
    const TableSetStatus& gone = at->status;
    LogEvent(*log_, spdlog::level::info, "freed",
             {{"table_set", gone.name}, {"table_set_id", gone.id}, {"bytes", gone.resident_bytes}},
             absl::StrFormat("freed %s %s: %.2f GB", gone.name, gone.id,
                             Gigabytes(gone.resident_bytes)));
    at = leaving_.erase(at);
  }
}

std::vector<TableSetStatus> TableSetManager::List() const {
  const MonotonicTime now = clock_->Now();
  const TableSetRegistry::All all = registry_->Everything();
  std::vector<TableSetStatus> sets;
  for (const RegisteredSet& registered : all.served) {
    TableSetStatus& one = sets.emplace_back(StatusOf(*registered.served.set, registered.state));
    one.leases = Counts(*registered.served.leases);
    one.age = WholeSeconds(now - registered.since);
    one.generation = generations_.Of(one.id);
    if (registered.was_acquired) one.idle = WholeSeconds(now - registered.acquired);
  }
  for (const FencedSet& fenced : all.fenced) {
    TableSetStatus& one = sets.emplace_back();
    one.name = fenced.name;
    one.id = fenced.id;
    one.directory = fenced.directory;
    one.state = TableSetState::kFenced;
    one.missed = fenced.missed;
    one.age = WholeSeconds(now - fenced.since);
  }
  std::vector<std::shared_ptr<const TableSet>> held;  // let go of when the lock is
  MutexLock lock(mutex_);
  for (const Leaving& leaving : leaving_) {
    sets.push_back(leaving.status);
    if (const auto& set = held.emplace_back(leaving.set.lock())) {
      sets.back().pages = census_.Of(*set);
    }
    sets.back().leases = Counts(*leaving.leases);
    sets.back().age = WholeSeconds(now - leaving.since);
  }
  return sets;
}

std::vector<std::shared_ptr<const TableSet>> TableSetManager::Held() const {
  std::vector<std::shared_ptr<const TableSet>> sets;
  for (const RegisteredSet& registered : registry_->States()) sets.push_back(registered.served.set);
  return sets;
}

void TableSetManager::RefreshPages() {
  std::vector<std::shared_ptr<const TableSet>> sets = Held();
  {
    MutexLock lock(mutex_);
    for (const Leaving& leaving : leaving_) {
      if (auto set = leaving.set.lock()) sets.push_back(std::move(set));
    }
  }
  census_.Refresh(sets);
}

std::optional<TableSetLoad> TableSetManager::loading() const {
  const MonotonicTime now = clock_->Now();
  MutexLock lock(mutex_);
  std::optional<TableSetLoad> loading = loading_;
  if (loading) loading->elapsed = now - loading->since;
  return loading;
}

std::string TableSetManager::Holders() const {
  std::string text;
  for (const TableSetStatus& set : List()) {
    if (set.resident_bytes == 0) continue;
    const std::string by = HeldBy(set);
    absl::StrAppend(&text, text.empty() ? "" : "; ", set.name, " ", set.id, " (", Name(set.state),
                    ", ", set.resident_bytes, " bytes", by.empty() ? "" : ", held by ", by, ")");
  }
  return text.empty() ? "nothing is here" : absl::StrCat("here are ", text);
}

absl::Status TableSetManager::CheckMemory(const Manifest& manifest, uint64_t needed) const {
  if (options_.memory_limit_bytes == 0) return absl::OkStatus();
  uint64_t here = 0;
  for (const TableSetStatus& set : List()) here += set.resident_bytes;
  if (here + needed <= options_.memory_limit_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "table set ", manifest.name, " ", manifest.id, " has ", manifest.TableBytes(),
      " bytes of rows, ",
      options_.load.partition ? "the part of which that is held takes " : "which take ", needed,
      " bytes of memory with their pages and token map, and would be more than "
      "--memory-limit-bytes ",
      options_.memory_limit_bytes, " lets: ", Holders(), "; retire one first, or raise the limit"));
}

absl::StatusOr<Manifest> TableSetManager::Check(const std::string& directory) const {
  ENGRAM_ASSIGN_OR_RETURN(Manifest manifest, LoadManifest(directory));
  const uint64_t token_rows = uint64_t{manifest.scheme.Columns()} * manifest.layers.size();
  if (token_rows > options_.max_batch_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-batch-rows ", options_.max_batch_rows, " is less than one token of it ",
                     "has: start engramd with ", token_rows, " or more"));
  }
  return manifest;
}

std::shared_ptr<const TableSet> TableSetManager::Served(const Manifest& manifest) const {
  for (const RegisteredSet& registered : registry_->States()) {
    if (registered.served.set->id() == manifest.id && registered.current()) {
      return registered.served.set;
    }
  }
  return nullptr;
}

absl::StatusOr<PublishedSet> TableSetManager::Publish(
    const std::string& directory, std::function<void(const LoadProgress&)> on_progress,
    std::function<bool()> cancelled, Keep keep, std::optional<uint64_t> generation) {
  {
    MutexLock lock(mutex_);
    if (publishing_) {
      return absl::AbortedError(absl::StrCat("another table set is being published, from ",
                                             loading_ ? loading_->directory : "",
                                             ": wait until it is there"));
    }
    publishing_ = true;
    loading_ = TableSetLoad{.directory = directory, .progress = {}, .since = clock_->Now()};
  }
  on_progress_ = std::move(on_progress);
  give_up_ = std::move(cancelled);
  keep_ = keep;
  asked_generation_ = generation;
  const absl::Cleanup done = [this] {
    on_progress_ = nullptr;
    give_up_ = nullptr;
    MutexLock lock(mutex_);
    publishing_ = false;
    loading_.reset();
    changed_.NotifyAll();
  };
  absl::StatusOr<PublishedSet> published = Load(directory);
  if (published.ok()) return published;
  return absl::Status(published.status().code(),
                      absl::StrCat("table set ", directory, ": ", published.status().message()));
}

absl::StatusOr<PublishedSet> TableSetManager::Load(const std::string& directory) {
  ENGRAM_ASSIGN_OR_RETURN(const Manifest manifest, Check(directory));
  ENGRAM_RETURN_IF_ERROR(CheckTakenBack(directory, manifest));
  ENGRAM_RETURN_IF_ERROR(NextGeneration(manifest).status());  // before it takes minutes
  std::shared_ptr<const TableSet> before = Current(manifest.name);
  {
    MutexLock moving(moving_);
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t generation, NextGeneration(manifest));
    if (std::shared_ptr<const TableSet> served = Served(manifest)) {
      std::string note =
          absl::StrCat("table set ", manifest.name, " ", manifest.id, " is served already, from ",
                       served->directory(), ": nothing was loaded",
                       served->directory() == directory
                           ? ""
                           : absl::StrCat(", and no row of ", directory, " was read"));
      LogEvent(*log_, spdlog::level::info, "served_already",
               {{"table_set", manifest.name}, {"table_set_id", manifest.id}}, note);
      PublishedSet published{.set = std::move(served),
                             .warning = std::move(note),
                             .generation = generation,
                             .is_note = true};
      Record(DirectoryToKeep(*published.set, directory, manifest), published);
      return published;
    }
    if (registry_->TakeBack(manifest.id).ok()) {
      LogEvent(*log_, spdlog::level::info, "taken_back",
               {{"table_set", manifest.name}, {"table_set_id", manifest.id}},
               absl::StrCat("took ", manifest.name, " ", manifest.id, " back: it was still here"));
      ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<const TableSet> back,
                              registry_->Resolve(manifest.id));
      options_.after_publish();
      std::string warning = WarnOfOtherRows(before.get(), *back);
      PublishedSet published{std::move(back), std::move(warning),
                             IdBefore(before.get(), manifest.id), generation};
      Record(DirectoryToKeep(*published.set, directory, manifest), published);
      return published;
    }
  }
  before.reset();  // it may go while the other is loaded
  const MonotonicTime begin = clock_->Now();
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<const TableSet> set, LoadFiles(directory, manifest));
  LogLoaded(*log_, *set, clock_->Now() - begin, options_.load.arena.shareable);
  ENGRAM_ASSIGN_OR_RETURN(const ServedSet served, TableSetRegistry::Prepare(set));
  ENGRAM_RETURN_IF_ERROR(options_.on_publish(served));
  MutexLock moving(moving_);
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t generation, NextGeneration(manifest));
  before = Current(manifest.name);
  if (absl::Status status = registry_->Publish(served); !status.ok()) {
    options_.on_retire(set->id());
    return status;
  }
  options_.after_publish();
  std::string warning = WarnOfOtherRows(before.get(), *set);
  PublishedSet published{std::move(set), std::move(warning), IdBefore(before.get(), manifest.id),
                         generation};
  Record(directory, published);
  return published;
}

// What the set will be once its name has moved to it. What engramd was started with has the number
// that was kept, or none: no publication.
absl::StatusOr<uint64_t> TableSetManager::NextGeneration(const Manifest& manifest) const {
  if (keep_ == Keep::kNo) return 0;
  return generations_.Next(manifest.name, manifest.id, asked_generation_);
}

// The name has moved: what cannot be kept is for the operator to know.
void TableSetManager::Record(const std::string& directory, PublishedSet& published) {
  const TableSet& set = *published.set;
  if (keep_ == Keep::kNo) return generations_.Start(set.name(), set.id());
  const uint64_t generation = published.generation;
  generations_.Publish(set.name(), set.id(), generation);
  if (options_.record == nullptr) return;
  const absl::Status kept = options_.record->Publish(set.name(), set.id(), directory, generation);
  if (kept.ok()) {
    LogEvent(*log_, spdlog::level::info, "recorded",
             {{"table_set", set.name()}, {"table_set_id", set.id()}, {"generation", generation}},
             absl::StrCat("recorded ", set.name(), " ", set.id(), " as generation ", generation,
                          " of its name: a restart serves it"));
    return;
  }
  const std::string why =
      absl::StrCat("a restart will serve what it would have served before: ", kept.message());
  LogEvent(*log_, spdlog::level::err, "record_failed",
           {{"table_set", set.name()},
            {"table_set_id", set.id()},
            {"code", absl::StatusCodeToString(kept.code())}},
           why);
  absl::StrAppend(&published.warning, published.warning.empty() ? "" : "; ", why);
  published.is_note = false;
}

// A set that is still here would be taken back as it was loaded, whatever lies beside it by now.
// The rows of a set that is here are not read again, so that a restart reads them where they were
// found right, as long as they are there.
std::string TableSetManager::DirectoryToKeep(const TableSet& held, const std::string& directory,
                                             const Manifest& manifest) {
  return CheckSetDirectory(held.directory(), manifest).ok() ? held.directory() : directory;
}

absl::Status TableSetManager::CheckTakenBack(const std::string& directory,
                                             const Manifest& manifest) const {
  for (const RegisteredSet& registered : registry_->States()) {
    const TableSet& held = *registered.served.set;
    if (held.id() != manifest.id) continue;
    ENGRAM_RETURN_IF_ERROR(CheckSetDirectory(directory, manifest));
    ENGRAM_ASSIGN_OR_RETURN(
        const SideFiles sides,
        LoadSmallSideFiles(directory, SideDirectory(options_.state_directory, manifest.id),
                           manifest));
    if (sides.image_token_ids == held.side_files().image_token_ids) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "table set ", manifest.name, " ", manifest.id,
        registered.current() ? " is served" : " is still held by clients", ", loaded from ",
        held.directory(), " with other image token ids: publish it again when it is gone from ",
        "`engram admin list`"));
  }
  return absl::OkStatus();
}

// The set that the name leads to, or null.
std::shared_ptr<const TableSet> TableSetManager::Current(const std::string& name) const {
  for (const std::shared_ptr<const TableSet>& set : registry_->List()) {
    if (set->name() == name) return set;
  }
  return nullptr;
}

// Of the source of sets without provenance nothing can be said.
std::string TableSetManager::WarnOfOtherRows(const TableSet* before, const TableSet& now) const {
  if (before == nullptr) return "";
  const std::optional<Provenance>& old_source = before->side_files().provenance;
  const std::optional<Provenance>& new_source = now.side_files().provenance;
  const bool other_source = old_source && new_source && !SameSource(*old_source, *new_source);
  const std::string shape = ShapeChange(before->manifest(), now.manifest());
  if (!other_source && shape.empty()) return "";
  const auto what = [&](const TableSet& set, const std::optional<Provenance>& source) {
    return other_source ? absl::StrCat("rows of ", SourceText(*source), " (", set.id(), ")")
                        : absl::StrCat("table set ", set.id());
  };
  std::string warning = absl::StrCat(
      "the name ", now.name(), " led to ", what(*before, old_source), " and now leads to ",
      what(now, new_source), shape.empty() ? "" : absl::StrCat(", of another shape (", shape, ")"),
      ": if that is not meant, publish ", before->directory(), " again");
  LogEvent(*log_, spdlog::level::warn, "other_rows",
           {{"table_set", now.name()}, {"table_set_id", now.id()}, {"id_before", before->id()}},
           warning);
  return warning;
}

absl::StatusOr<std::shared_ptr<const TableSet>> TableSetManager::LoadFiles(
    const std::string& directory, const Manifest& manifest) {
  LoadOptions options = options_.load;
  options.side_file_directory = SideDirectory(options_.state_directory, manifest.id);
  options.may_take = [this, &manifest](uint64_t bytes) { return CheckMemory(manifest, bytes); };
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<HeldLayer> held,
                          engram::HeldBy(options.partition, manifest));
  const uint64_t held_bytes = HeldRowBytes(manifest, held);
  LogEvent(
      *log_, spdlog::level::info, "loading",
      {{"directory", directory},
       {"table_set", manifest.name},
       {"table_set_id", manifest.id},
       {"bytes", held_bytes}},
      absl::StrCat("loading ", held_bytes == manifest.TableBytes() ? "" : "a part of ", directory));
  MonotonicTime next_line = clock_->After(kLineInterval);
  options.on_progress = [this, &directory, &next_line](const LoadProgress& progress) {
    if (clock_->Now() > next_line && progress.bytes_total > 0) {
      next_line = clock_->After(kLineInterval);
      const std::string line = absl::StrFormat("loading %s: %d %% of %.2f GB", directory,
                                               progress.bytes_done * 100 / progress.bytes_total,
                                               Gigabytes(progress.bytes_total));
      LogEvent(*log_, spdlog::level::info, "load_progress",
               {{"directory", directory},
                {"bytes_done", progress.bytes_done},
                {"bytes", progress.bytes_total}},
               line);
      life_->SetStatusLine(line);
    }
    {
      MutexLock lock(mutex_);
      loading_->progress = progress;
    }
    if (on_progress_) on_progress_(progress);
  };
  options.cancelled = [this] { return cancelled_.load() || (give_up_ && give_up_()); };
  absl::StatusOr<std::shared_ptr<const TableSet>> set = TableSet::Load(directory, options);
  if (absl::IsResourceExhausted(set.status())) {
    // A limit that was set says so already.
    if (absl::StrContains(set.status().message(), "--memory-limit-bytes")) return set;
    return absl::ResourceExhaustedError(absl::StrCat(set.status().message(), "; ", Holders()));
  }
  return set;
}

}  // namespace engram
