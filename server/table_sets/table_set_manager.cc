#include "server/table_sets/table_set_manager.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "memstore/os/thread.h"
#include "memstore/table/manifest.h"
#include "server/base/limits.h"

namespace engram {
namespace {

constexpr std::chrono::milliseconds kLookInterval{100};
// Between lines that say how far loading is.
constexpr std::chrono::seconds kLineInterval{2};
constexpr const char* kLeaseNames[kLeaseKinds] = {"mapped", "ring", "rdma", "rdma-read"};

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

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

std::string HeldBy(const TableSetState& set) {
  std::string text;
  for (size_t i = 0; i < kLeaseKinds; ++i) {
    if (set.leases[i] == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", set.leases[i], " ", kLeaseNames[i]);
  }
  if (set.idle) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "gRPC ", set.idle->count(), " s ago");
  }
  return text;
}

}  // namespace

absl::Status TableSets::Start() {
  absl::StatusOr<std::thread> thread = StartThread("engram-retire", [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

TableSets::~TableSets() {
  Cancel();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    ending_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !publishing_; });
  }
  if (thread_.joinable()) thread_.join();
}

void TableSets::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ending_) {
    lock.unlock();
    LetGo();
    lock.lock();
    changed_.wait_for(lock, kLookInterval, [this] { return ending_; });
  }
}

// Superseded sets that nobody has, or whose grace is over, and retired ones whose memory is free.
void TableSets::LetGo() {
  const Clock::time_point now = Clock::now();
  for (const ServedState& state : store_->States()) {
    if (state.current) continue;
    const bool held =
        state.served.leases->Total() > 0 ||
        (state.was_acquired && now - ToSteadyTime(state.acquired) < Clock::duration(kGrpcLease));
    if (held && now - ToSteadyTime(state.since) < options_.retire_grace) continue;
    const TableSet& set = *state.served.set;
    if (!store_->RetireSuperseded(set.id()).ok())
      continue;  // it was fenced meanwhile, or taken back
    options_.on_retire(set.id());
    log_->info("retired {} {}{}", set.name(), set.id(),
               held ? ": the grace is over, and clients still had it" : "");
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving_.push_back({.set = state.served.set,
                        .state = {.name = set.name(),
                                  .id = set.id(),
                                  .directory = set.directory(),
                                  .state = "retired",
                                  .resident_bytes = set.resident_bytes(),
                                  .page_kind = set.page_kind(),
                                  .layers = LayoutOf(set)},
                        .leases = state.served.leases,
                        .since = now});
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto at = leaving_.begin(); at != leaving_.end();) {
    // The endpoint holds it for each client that maps it, until that one closes its socket.
    if (!at->set.expired()) {
      ++at;
      continue;
    }
    log_->info("freed {} {}: {:.2f} GB", at->state.name, at->state.id,
               Gigabytes(at->state.resident_bytes));
    at = leaving_.erase(at);
  }
}

std::vector<TableSetState> TableSets::List() const {
  const Clock::time_point now = Clock::now();
  const auto seconds = [&](Clock::time_point since) {
    return std::chrono::duration_cast<std::chrono::seconds>(now - since);
  };
  std::vector<TableSetState> sets;
  for (const ServedState& state : store_->States()) {
    const TableSet& set = *state.served.set;
    TableSetState one{.name = set.name(),
                      .id = set.id(),
                      .directory = set.directory(),
                      .state = state.current ? "serving" : "superseded",
                      .resident_bytes = set.resident_bytes(),
                      .page_kind = set.page_kind(),
                      .leases = Counts(*state.served.leases),
                      .idle = std::nullopt,
                      .age = seconds(ToSteadyTime(state.since)),
                      .layers = LayoutOf(set)};
    if (state.was_acquired) one.idle = seconds(ToSteadyTime(state.acquired));
    sets.push_back(std::move(one));
  }
  for (const std::string& id : store_->Fenced()) {
    TableSetState& one = sets.emplace_back();
    one.id = id;
    one.state = "fenced";
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Leaving& leaving : leaving_) {
    sets.push_back(leaving.state);
    sets.back().leases = Counts(*leaving.leases);
    sets.back().age = seconds(leaving.since);
  }
  return sets;
}

std::vector<std::shared_ptr<const TableSet>> TableSets::Held() const {
  std::vector<std::shared_ptr<const TableSet>> sets;
  for (const ServedState& state : store_->States()) sets.push_back(state.served.set);
  return sets;
}

std::optional<TableSetLoad> TableSets::loading() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return loading_;
}

std::string TableSets::Holders() const {
  std::string text;
  for (const TableSetState& set : List()) {
    if (set.resident_bytes == 0) continue;
    const std::string by = HeldBy(set);
    absl::StrAppend(&text, text.empty() ? "" : "; ", set.name, " ", set.id, " (", set.state, ", ",
                    set.resident_bytes, " bytes", by.empty() ? "" : ", held by ", by, ")");
  }
  return text.empty() ? "nothing is here" : absl::StrCat("here are ", text);
}

absl::Status TableSets::CheckMemory(const Manifest& manifest) const {
  if (options_.memory_limit_bytes == 0) return absl::OkStatus();
  uint64_t here = 0;
  for (const TableSetState& set : List()) here += set.resident_bytes;
  if (here + manifest.TableBytes() <= options_.memory_limit_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "table set ", manifest.name, " ", manifest.id, " has ", manifest.TableBytes(),
      " bytes of rows, and would be more than --memory-limit-bytes ", options_.memory_limit_bytes,
      " lets: ", Holders(), "; retire one first, or raise the limit"));
}

absl::StatusOr<Manifest> TableSets::Check(const std::string& directory) const {
  absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return manifest.status();
  const uint64_t token_rows = uint64_t{manifest->scheme.Columns()} * manifest->layers.size();
  if (token_rows > options_.max_batch_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-batch-rows ", options_.max_batch_rows, " is less than one token of it ",
                     "has: start engramd with ", token_rows, " or more"));
  }
  for (const ServedState& state : store_->States()) {
    if (state.served.set->id() != manifest->id || !state.current) continue;
    return absl::AlreadyExistsError(absl::StrCat("table set ", manifest->name, " ", manifest->id,
                                                 " is served already, from ",
                                                 state.served.set->directory()));
  }
  return manifest;
}

absl::StatusOr<std::shared_ptr<const TableSet>> TableSets::Publish(
    const std::string& directory, std::function<void(const LoadProgress&)> on_progress,
    std::function<bool()> cancelled) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (publishing_) {
      return absl::AbortedError(absl::StrCat("another table set is being published, from ",
                                             loading_ ? loading_->directory : "",
                                             ": wait until it is there"));
    }
    publishing_ = true;
    loading_ = TableSetLoad{.directory = directory, .progress = {}};
    on_progress_ = std::move(on_progress);
    give_up_ = std::move(cancelled);
  }
  const absl::Cleanup done = [this] {
    const std::lock_guard<std::mutex> lock(mutex_);
    publishing_ = false;
    loading_.reset();
    on_progress_ = nullptr;
    give_up_ = nullptr;
    changed_.notify_all();
  };
  absl::StatusOr<std::shared_ptr<const TableSet>> set = Load(directory);
  if (set.ok()) return set;
  return absl::Status(set.status().code(),
                      absl::StrCat("table set ", directory, ": ", set.status().message()));
}

absl::StatusOr<std::shared_ptr<const TableSet>> TableSets::Load(const std::string& directory) {
  const absl::StatusOr<Manifest> manifest = Check(directory);
  if (!manifest.ok()) return manifest.status();
  if (store_->TakeBack(manifest->id).ok()) {
    log_->info("took {} {} back: it was still here", manifest->name, manifest->id);
    return store_->Resolve(manifest->id);
  }
  if (absl::Status status = CheckMemory(*manifest); !status.ok()) return status;
  LoadOptions options = options_.load;
  log_->info("loading {}", directory);
  const Clock::time_point begin = Clock::now();
  Clock::time_point told = begin;
  options.on_progress = [this, &directory, &told](const LoadProgress& progress) {
    if (Clock::now() - told > kLineInterval && progress.bytes_total > 0) {
      told = Clock::now();
      const std::string line = absl::StrFormat("loading %s: %d %% of %.2f GB", directory,
                                               progress.bytes_done * 100 / progress.bytes_total,
                                               Gigabytes(progress.bytes_total));
      log_->info("{}", line);
      life_->Tell(line);
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      loading_->progress = progress;
    }
    if (on_progress_) on_progress_(progress);
  };
  options.cancelled = [this] { return cancelled_.load() || (give_up_ && give_up_()); };
  absl::StatusOr<std::shared_ptr<const TableSet>> set = TableSet::Load(directory, options);
  if (absl::IsResourceExhausted(set.status())) {
    return absl::ResourceExhaustedError(absl::StrCat(set.status().message(), "; ", Holders()));
  }
  if (!set.ok()) return set.status();
  LogLoaded(**set, std::chrono::duration<double>(Clock::now() - begin).count());
  absl::StatusOr<ServedSet> served = Store::Prepare(*set);
  if (!served.ok()) return served.status();
  if (absl::Status status = options_.on_publish(*served); !status.ok()) return status;
  if (absl::Status status = store_->Publish(*served); !status.ok()) {
    options_.on_retire((*set)->id());
    return status;
  }
  return set;
}

void TableSets::LogLoaded(const TableSet& set, double seconds) const {
  log_->info(
      "loaded {} {}: {} layers, {:.2f} GB in {:.1f} s, every checksum held, {:.2f} GB resident on "
      "{} pages",
      set.name(), set.id(), set.layers().size(), Gigabytes(set.manifest().TableBytes()), seconds,
      Gigabytes(set.resident_bytes()), std::string(Name(set.page_kind())));
  if (options_.load.arena.shareable && set.page_kind() == PageKind::kSmall) {
    log_->warn("the tables that are shared lie on 4 KiB pages, which makes lookups slower: {}",
               HowToGetHugePages(set.resident_bytes(), /*shareable=*/true));
  }
}

absl::Status TableSets::Retire(const std::string& id_or_name) {
  const absl::StatusOr<ServedSet> served = store_->ResolveServed(id_or_name);
  if (!served.ok() || id_or_name.empty()) {
    return absl::NotFoundError(served.ok() ? "name the table set to retire, by its name or id"
                                           : served.status().message());
  }
  const std::string& id = served->set->id();
  const std::vector<std::shared_ptr<const TableSet>> current = store_->List();
  const bool is_current =
      std::any_of(current.begin(), current.end(), [&](const auto& set) { return set->id() == id; });
  if (!is_current) {
    return absl::FailedPreconditionError(absl::StrCat(
        "table set ", id, " is superseded already, and goes when nobody has it any more"));
  }
  if (current.size() == 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("table set ", id, " is the only one that is served: publish the one that ",
                     "follows it, or stop engramd"));
  }
  absl::Status status = store_->Supersede(id);
  if (status.ok()) log_->info("{} {} was retired by its name", served->set->name(), id);
  return status;
}

}  // namespace engram
