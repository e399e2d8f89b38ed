#include "memstore/tls/pem_watch.h"

#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/os/thread.h"
#include "memstore/tls/pem.h"
#include "memstore/tls/pem_slot.h"

namespace engram {
namespace {

// How often files are looked at. A change is seen by one look and acted on by the next; gRPC looks
// once a second.
constexpr absl::Duration kLookInterval = absl::Milliseconds(500);

// What belongs together: a certificate and its key, or authorities. Thread-safe; one thread at a
// time looks. Files are read without the lock: a file system may be slow, and what is asked of a
// watch must not wait for it.
class Part {
 public:
  Part(std::vector<std::string> paths, bool for_server)
      : paths_(std::move(paths)), for_server_(for_server) {}

  // What the files hold, or why they cannot be read.
  struct Reading {
    std::vector<PemFile> files;
    absl::Status status;
    bool operator==(const Reading& other) const {
      return status == other.status &&
             absl::c_equal(files, other.files,
                           [](const auto& one, const auto& two) { return one.text == two.text; });
    }
  };
  Reading Read() const {
    Reading reading;
    for (const std::string& path : paths_) {
      absl::StatusOr<PemFile> file = ReadPemFile(path);
      if (!file.ok()) return {{}, file.status()};
      reading.files.push_back(*std::move(file));
    }
    return reading;
  }

  // Has what was read in the slot, if it can be used.
  absl::Status Use(Reading reading) {
    MutexLock lock(mutex_);
    return UseLocked(std::move(reading));
  }

  // Looks once; what is new, if anything: OK where other files are used, else why they are not.
  std::optional<absl::Status> Look(Reading reading) {
    MutexLock lock(mutex_);
    const bool settled = reading == seen_;
    seen_ = reading;
    // One that was refused is asked again: its time may have come.
    if (!settled || (refusal_.ok() && reading == used_)) return std::nullopt;
    absl::Status status = UseLocked(std::move(reading));
    if (!status.ok() && status == refusal_) return std::nullopt;
    refusal_ = status;
    return status;
  }

  std::string Files() const { return absl::StrJoin(paths_, " and "); }
  std::string Path() const {
    MutexLock lock(mutex_);
    return slot_.Path();
  }
  double Expiry() const {
    MutexLock lock(mutex_);
    return expiry_;
  }
  absl::Status Refusal() const {
    MutexLock lock(mutex_);
    return refusal_;
  }

 private:
  absl::StatusOr<KeyPair> Check(const Reading& reading) const {
    if (!reading.status.ok()) return reading.status;
    if (reading.files.size() == 2) {
      absl::StatusOr<KeyPair> pair = CheckKeyPair(reading.files[0], reading.files[1]);
      if (!pair.ok() || !for_server_) return pair;
      const absl::Status status = CheckServerCertificate(reading.files[0]);
      if (!status.ok()) return status;
      return pair;
    }
    absl::StatusOr<std::string> pem = CheckAuthorities(reading.files[0]);
    if (!pem.ok()) return pem.status();
    return KeyPair{*std::move(pem), 0};
  }

  absl::Status UseLocked(Reading reading) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (slot_.Path().empty() || !(reading == used_)) {
      absl::StatusOr<KeyPair> checked = Check(reading);
      if (!checked.ok()) return checked.status();
      if (absl::Status status = slot_.Put(checked->pem); !status.ok()) return status;
      expiry_ = checked->expiry;
      used_ = std::move(reading);
    }
    refusal_ = absl::OkStatus();
    return absl::OkStatus();
  }

  const std::vector<std::string> paths_;
  const bool for_server_;
  mutable Mutex mutex_;
  PemSlot slot_ ABSL_GUARDED_BY(mutex_);
  Reading used_ ABSL_GUARDED_BY(mutex_);
  Reading seen_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  double expiry_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

// The files that watches share; never destroyed, for its slots' sake.
class WatchedPem {
 public:
  // Of all of them, and of their beginning and end.
  static inline Mutex registry_;
  // One for the same files.
  static WatchedPem* Of(const PemWatch::Files& files) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_);

  explicit WatchedPem(const PemWatch::Files& files) {
    if (!files.cert.empty()) {
      pair_ = &parts_.emplace_back(Paths{files.cert, files.key}, files.for_server);
    }
    if (files.authorities.empty()) return;
    authorities_ = &parts_.emplace_back(Paths{files.authorities}, false);
  }

  // For the first that joins: has the files in their slots, and looks at them from now on.
  absl::Status Start() ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_) {
    if (thread_.joinable()) return absl::OkStatus();
    for (Part& part : parts_) {
      if (absl::Status status = part.Use(part.Read()); !status.ok()) return status;
    }
    {
      MutexLock lock(mutex_);
      stop_ = false;
    }
    absl::StatusOr<std::thread> thread = StartThread("tls-files", [this] { Watch(); });
    if (!thread.ok()) return thread.status();
    thread_ = *std::move(thread);
    return absl::OkStatus();
  }
  // What follows Start.
  void Join(PemWatch* watch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_) {
    MutexLock lock(mutex_);
    watches_.push_back(watch);
  }

  void Leave(PemWatch* watch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_) {
    {
      MutexLock lock(mutex_);
      watches_.erase(absl::c_find(watches_, watch));
      stop_ = watches_.empty();
      if (!stop_) return;
      wake_.NotifyAll();
    }
    thread_.join();
  }

  const Part* pair() const { return pair_; }
  const Part* authorities() const { return authorities_; }
  absl::Status Refusal() const {
    for (const Part& part : parts_) {
      if (absl::Status refusal = part.Refusal(); !refusal.ok()) return refusal;
    }
    return absl::OkStatus();
  }

 private:
  using Paths = std::vector<std::string>;

  void Watch() {
    while (SleepUntilNextLook()) {
      for (Part& part : parts_) {
        const std::optional<absl::Status> news = part.Look(part.Read());
        if (news.has_value()) Tell(*news, part.Files());
      }
    }
  }
  // False when it is to stop.
  bool SleepUntilNextLook() {
    const MonotonicTime next = RealClock().After(kLookInterval);
    MutexLock lock(mutex_);
    while (!stop_ && RealClock().WaitUntil(wake_, mutex_, next)) {
    }
    return !stop_;
  }
  // Watches cannot go while they are told: one that has gone is told nothing.
  void Tell(const absl::Status& status, const std::string& files) {
    MutexLock lock(mutex_);
    for (const PemWatch* watch : watches_) {
      if (watch->on_change_) watch->on_change_(status, files);
    }
  }

  std::deque<Part> parts_;       // as many as there are from the beginning
  Part* pair_ = nullptr;         // const; into parts_
  Part* authorities_ = nullptr;  // const; into parts_
  Mutex mutex_;
  CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<PemWatch*> watches_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_ ABSL_GUARDED_BY(registry_);  // runs while there are watches
};

WatchedPem* WatchedPem::Of(const PemWatch::Files& files) {
  using Key = std::tuple<std::string, std::string, std::string, bool>;
  static auto* const all = new std::map<Key, WatchedPem>;
  return &all->try_emplace(Key(files.cert, files.key, files.authorities, files.for_server), files)
              .first->second;
}

PemWatch::PemWatch(WatchedPem* watched, OnChange on_change)
    : watched_(watched), on_change_(std::move(on_change)) {}

absl::StatusOr<std::unique_ptr<PemWatch>> PemWatch::Open(const Files& files, OnChange on_change) {
  MutexLock lock(WatchedPem::registry_);
  WatchedPem* const watched = WatchedPem::Of(files);
  if (absl::Status status = watched->Start(); !status.ok()) return status;
  std::unique_ptr<PemWatch> watch(new PemWatch(watched, std::move(on_change)));
  watched->Join(watch.get());
  return watch;
}

PemWatch::~PemWatch() {
  MutexLock lock(WatchedPem::registry_);
  watched_->Leave(this);
}

std::string PemWatch::PairPath() const {
  return watched_->pair() == nullptr ? "" : watched_->pair()->Path();
}
std::string PemWatch::AuthoritiesPath() const {
  return watched_->authorities() == nullptr ? "" : watched_->authorities()->Path();
}
double PemWatch::Expiry() const {
  return watched_->pair() == nullptr ? 0 : watched_->pair()->Expiry();
}
absl::Status PemWatch::Refusal() const { return watched_->Refusal(); }

}  // namespace engram
