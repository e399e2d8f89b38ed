#include "memstore/tls/pem_watch.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/os/thread.h"
#include "memstore/tls/pem.h"
#include "memstore/tls/pem_slot.h"

namespace engram {
namespace {

// How often files are looked at. A change is seen by one look and acted on by the next; gRPC looks
// once a second.
constexpr std::chrono::milliseconds kLookInterval{500};

// What belongs together: a certificate and its key, or authorities. One thread at a time looks;
// what others ask for is guarded by the owner.
class Part {
 public:
  explicit Part(std::vector<std::string> paths) : paths_(std::move(paths)) {}

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

  // Looks once, and tells `on_change` what is new.
  void Look(Reading reading, const PemWatch::OnChange& on_change) {
    const bool settled = reading == seen_;
    seen_ = reading;
    // One that was refused is asked again: its time may have come.
    if (!settled || (refusal_.ok() && reading == used_)) return;
    absl::Status status = Use(std::move(reading));
    if (!status.ok() && status == refusal_) return;
    refusal_ = std::move(status);
    on_change(refusal_, absl::StrJoin(paths_, " and "));
  }

  std::string Path() const { return slot_.Path(); }
  double expiry() const { return expiry_; }
  const absl::Status& refusal() const { return refusal_; }

 private:
  static absl::StatusOr<KeyPair> Check(const Reading& reading) {
    if (!reading.status.ok()) return reading.status;
    if (reading.files.size() == 2) return CheckKeyPair(reading.files[0], reading.files[1]);
    absl::StatusOr<std::string> pem = CheckAuthorities(reading.files[0]);
    if (!pem.ok()) return pem.status();
    return KeyPair{*std::move(pem), 0};
  }

  const std::vector<std::string> paths_;
  PemSlot slot_;
  Reading used_;
  Reading seen_;
  absl::Status refusal_;
  double expiry_ = 0;
};

}  // namespace

// The files that watches share; never destroyed, for its slots' sake.
class WatchedPem {
 public:
  // One for the same files. Registry is held by whoever calls Start, Join and Leave.
  static WatchedPem* Of(const PemWatch::Files& files);
  static std::mutex& Registry();

  explicit WatchedPem(const PemWatch::Files& files) {
    if (!files.cert.empty()) pair_ = &parts_.emplace_back(Paths{files.cert, files.key});
    if (files.authorities.empty()) return;
    authorities_ = &parts_.emplace_back(Paths{files.authorities});
  }

  // For the first that joins: has the files in their slots, and looks at them from now on.
  absl::Status Start() {
    if (thread_.joinable()) return absl::OkStatus();
    for (Part& part : parts_) {
      Part::Reading reading = part.Read();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (absl::Status status = part.Use(std::move(reading)); !status.ok()) return status;
    }
    stop_ = false;
    absl::StatusOr<std::thread> thread = StartThread("tls-files", [this] { Watch(); });
    if (!thread.ok()) return thread.status();
    thread_ = *std::move(thread);
    return absl::OkStatus();
  }
  // What follows Start.
  void Join(PemWatch* watch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    watches_.push_back(watch);
  }

  void Leave(PemWatch* watch) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      watches_.erase(absl::c_find(watches_, watch));
      stop_ = watches_.empty();
      if (!stop_) return;
    }
    wake_.notify_all();
    thread_.join();
  }

  std::string PathOf(const Part* part) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return part == nullptr ? "" : part->Path();
  }
  const Part* pair() const { return pair_; }
  const Part* authorities() const { return authorities_; }
  double Expiry() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return pair_ == nullptr ? 0 : pair_->expiry();
  }
  absl::Status Refusal() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Part& part : parts_) {
      if (!part.refusal().ok()) return part.refusal();
    }
    return absl::OkStatus();
  }

 private:
  using Paths = std::vector<std::string>;

  void Watch() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!wake_.wait_for(lock, kLookInterval, [this] { return stop_; })) {
      for (Part& part : parts_) {
        // A file system may be slow, and what is asked of a watch must not wait for it.
        lock.unlock();
        Part::Reading reading = part.Read();
        lock.lock();
        part.Look(std::move(reading), [this](const absl::Status& status, absl::string_view files) {
          for (const PemWatch* watch : watches_) {
            if (watch->on_change_) watch->on_change_(status, files);
          }
        });
      }
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;               // guarded by mutex_
  std::deque<Part> parts_;          // guarded by mutex_, but for Read
  Part* pair_ = nullptr;            // const; into parts_
  Part* authorities_ = nullptr;     // const; into parts_
  std::vector<PemWatch*> watches_;  // guarded by mutex_
  std::thread thread_;              // guarded by Registry; runs while there are watches
};

std::mutex& WatchedPem::Registry() {
  static std::mutex* const mutex = new std::mutex;
  return *mutex;
}

WatchedPem* WatchedPem::Of(const PemWatch::Files& files) {
  using Key = std::tuple<std::string, std::string, std::string>;
  static auto* const all = new std::map<Key, WatchedPem>;
  return &all->try_emplace(Key(files.cert, files.key, files.authorities), files).first->second;
}

PemWatch::PemWatch(WatchedPem* watched, OnChange on_change)
    : watched_(watched), on_change_(std::move(on_change)) {}

absl::StatusOr<std::unique_ptr<PemWatch>> PemWatch::Open(const Files& files, OnChange on_change) {
  const std::lock_guard<std::mutex> lock(WatchedPem::Registry());
  WatchedPem* const watched = WatchedPem::Of(files);
  if (absl::Status status = watched->Start(); !status.ok()) return status;
  std::unique_ptr<PemWatch> watch(new PemWatch(watched, std::move(on_change)));
  watched->Join(watch.get());
  return watch;
}

PemWatch::~PemWatch() {
  const std::lock_guard<std::mutex> lock(WatchedPem::Registry());
  watched_->Leave(this);
}

std::string PemWatch::PairPath() const { return watched_->PathOf(watched_->pair()); }
std::string PemWatch::AuthoritiesPath() const { return watched_->PathOf(watched_->authorities()); }
double PemWatch::Expiry() const { return watched_->Expiry(); }
absl::Status PemWatch::Refusal() const { return watched_->Refusal(); }

}  // namespace engram
