#include "client/cluster/store_watch.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/grpc/grpc_channel.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Load changes with every word, and no map with it.
bool HoldTheSame(const StoreState& a, const StoreState& b) {
  StoreState same = b;
  same.load = a.load;
  return a == same;
}

// Who has an authority for stores alone means it for all that tells of them: an etcd that anybody
// could stand in for would choose who is asked. A token is none of etcd's business.
EtcdSecurity EtcdOf(const StoreWatchOptions& options) {
  EtcdSecurity etcd = options.etcd;
  if (!etcd.ca.empty() || !etcd.cert.empty() || !etcd.key.empty()) return etcd;
  etcd.ca = options.security.tls_ca;
  etcd.cert = options.security.tls_cert;
  etcd.key = options.security.tls_key;
  return etcd;
}

DiscoveryOptions DiscoveryOf(const StoreWatchOptions& options, std::function<void()> on_change) {
  return {.tls_server_name = options.security.tls_server_name,
          .etcd = EtcdOf(options),
          .on_change = [told = std::move(on_change)](const auto&) { told(); },
          .resolver = options.resolver};
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreWatch>> StoreWatch::Start(const ClusterTarget& target,
                                                              StoreWatchOptions options) {
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<QueueDriver> driver,
                          QueueDriver::Create(absl::ZeroDuration(), *options.clock));
  std::unique_ptr<StoreWatch> watch(new StoreWatch(std::move(options), std::move(driver)));
  StoreWatch* const raw = watch.get();
  // What a later address lacks is found in problems().
  ENGRAM_ASSIGN_OR_RETURN(
      watch->discovery_,
      Discovery::Create(target,
                        DiscoveryOf(raw->options_, [raw] { raw->TakeAddresses().IgnoreError(); }),
                        *raw->options_.clock));
  {
    MutexLock lock(raw->stores_mutex_);
    raw->known_discovery_ = raw->discovery_.get();
  }
  ENGRAM_RETURN_IF_ERROR(raw->TakeAddresses());
  return watch;
}

StoreWatch::~StoreWatch() {
  std::map<std::string, Store> stores;  // ended without the lock, and before the discovery
  MutexLock lock(stores_mutex_);
  known_discovery_ = nullptr;  // its thread opens no more
  stores.swap(stores_);
  lock.Unlock();
  stores.clear();
}

absl::StatusOr<StoreWatch::Store> StoreWatch::Open(const StoreAddress& address) {
  Store store;
  store.way.security = options_.security;
  // Without TLS there is nobody whose name could be checked.
  if (options_.security.tls() && !address.tls_server_name.empty()) {
    store.way.security.tls_server_name = address.tls_server_name;
  }
  ENGRAM_ASSIGN_OR_RETURN(
      store.way.credentials,
      GrpcCredentials::Create(store.way.security, address.address, *options_.clock));
  store.way.channel = OpenChannel(address.address, *store.way.credentials);
  store.stream =
      std::make_unique<HoldingsStream>(HoldingsStream::Options{.address = address.address,
                                                               .credentials = store.way.credentials,
                                                               .channel = store.way.channel,
                                                               .driver = driver_,
                                                               .listener = this,
                                                               .clock = options_.clock});
  return store;
}

absl::Status StoreWatch::TakeAddresses() {
  std::vector<Store> gone;  // ended without the lock
  absl::Status status;
  {
    MutexLock lock(stores_mutex_);
    if (known_discovery_ == nullptr) return absl::OkStatus();
    std::set<std::string> named;
    for (const StoreAddress& address : known_discovery_->addresses()) {
      named.insert(address.address);
      if (stores_.contains(address.address)) continue;
      absl::StatusOr<Store> store = Open(address);
      if (!store.ok()) {
        status.Update(store.status());
        MutexLock heard_lock(mutex_);
        problems_[address.address] = store.status();
        continue;
      }
      store->stream->Use(used_);
      stores_.emplace(address.address, *std::move(store));
    }
    for (auto next = stores_.begin(); next != stores_.end();) {
      const auto store = next++;
      if (named.contains(store->first) || IsHeard(store->first)) continue;
      gone.push_back(std::move(store->second));
      MutexLock heard_lock(mutex_);
      problems_.erase(store->first);
      stores_.erase(store);
    }
  }
  return status;
}

bool StoreWatch::IsHeard(const std::string& address) const {
  MutexLock lock(mutex_);
  return std::any_of(heard_.begin(), heard_.end(),
                     [&](const StoreState& store) { return store.address == address; });
}

std::vector<StoreState> StoreWatch::Heard() const {
  MutexLock lock(mutex_);
  return heard_;
}

std::vector<std::string> StoreWatch::Unheard() const {
  std::vector<std::string> unheard;
  for (const StoreAddress& address : discovery_->addresses()) {
    if (!IsHeard(address.address)) unheard.push_back(address.address);
  }
  return unheard;
}

uint64_t StoreWatch::version() const {
  MutexLock lock(mutex_);
  return version_;
}

void StoreWatch::AwaitChange(uint64_t version, MonotonicTime until) const {
  MutexLock lock(mutex_);
  while (version_ == version && options_.clock->Now() < until) {
    options_.clock->WaitUntil(changed_, mutex_, until);
  }
}

void StoreWatch::Use(const std::vector<std::string>& set_ids) {
  MutexLock lock(stores_mutex_);
  used_ = set_ids;
  for (auto& [address, store] : stores_) store.stream->Use(set_ids);
}

std::optional<StoreWatch::Way> StoreWatch::WayTo(const std::string& address) const {
  MutexLock lock(stores_mutex_);
  const auto found = stores_.find(address);
  if (found == stores_.end()) return std::nullopt;
  Way way = found->second.way;
  MutexLock heard_lock(mutex_);
  for (const StoreState& store : heard_) {
    if (store.address == address) way.features = store.features;
  }
  return way;
}

size_t StoreWatch::addresses() const { return discovery_->addresses().size(); }

std::map<std::string, absl::Status> StoreWatch::problems() const {
  MutexLock lock(mutex_);
  return problems_;
}

StoreDirectory::Refusals StoreWatch::refusals() const {
  MutexLock lock(mutex_);
  return refusals_;
}

std::vector<std::string> StoreWatch::Silent() const {
  std::vector<std::string> silent;
  MutexLock lock(stores_mutex_);
  MutexLock heard_lock(mutex_);
  for (const auto& entry : stores_) {
    const std::string& address = entry.first;
    const bool is_heard = std::any_of(heard_.begin(), heard_.end(), [&](const StoreState& heard) {
      return heard.address == address;
    });
    if (!is_heard && !problems_.contains(address)) silent.push_back(address);
  }
  return silent;
}

void StoreWatch::SetListener(Listener* listener) {
  MutexLock lock(listener_mutex_);
  listener_ = listener;
}

void StoreWatch::TellListener(const std::string& address, bool has_changed) {
  MutexLock lock(listener_mutex_);
  if (listener_ == nullptr) return;
  if (has_changed) listener_->HoldingsChanged();
  listener_->StoreSpoke(address);
}

void StoreWatch::Heard(StoreState state) {
  const std::string address = state.address;
  bool has_changed = true;
  {
    MutexLock lock(mutex_);
    problems_.erase(address);
    const auto before = std::find_if(heard_.begin(), heard_.end(), [&](const StoreState& store) {
      return store.address == address;
    });
    if (before != heard_.end()) {
      has_changed = !HoldTheSame(*before, state);
      heard_.erase(before);
    }
    heard_.push_back(std::move(state));
    if (has_changed) {
      ++version_;
      changed_.NotifyAll();
    }
  }
  TellListener(address, has_changed);
}

void StoreWatch::Lost(const std::string& address, absl::Status why) {
  bool was_heard = false;
  {
    MutexLock lock(mutex_);
    if (absl::IsUnauthenticated(why)) ++refusals_.strangers;
    if (absl::IsInvalidArgument(why)) {
      ++refusals_.left_out;
      // What a store says is wrong, and not what the caller asked for.
      why = absl::FailedPreconditionError(why.message());
    }
    problems_[address] = std::move(why);
    was_heard = std::erase_if(
                    heard_, [&](const StoreState& store) { return store.address == address; }) > 0;
    ++version_;
    changed_.NotifyAll();
  }
  if (was_heard) {
    MutexLock lock(listener_mutex_);
    if (listener_ != nullptr) listener_->HoldingsChanged();
  }
  discovery_->LookAgain();
}

}  // namespace engram
