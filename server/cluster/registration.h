// A store's key in etcd: put under a lease when engramd serves, kept alive, taken back when it
// drains.
//
// engramd serves whether or not etcd does. Where etcd is down, or refuses, it is tried again with
// growing delays, the endpoints in turn; a lease that is lost, or a key that somebody deleted, is
// made anew. A thread of its own ("registration") does it all. Thread-safe, but for the destructor.
#pragma once

#include <spdlog/logger.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/discovery/etcd_place.h"
#include "memstore/discovery/etcd_security.h"
#include "memstore/tls/pem_watch.h"

namespace engram {

namespace etcd {
class Client;
}

struct RegistrationOptions {
  EtcdPlace place;
  std::string address;      // HOST:PORT, as clients reach it
  std::string instance_id;  // a plain name
  EtcdSecurity security = {};
};

class Registration {
 public:
  // After this time without a word of engramd's the address goes: an engramd that was killed is not
  // found any more.
  static constexpr std::chrono::seconds kLease{10};
  // Two words may be lost.
  static constexpr absl::Duration kKeepAlive = absl::Seconds(3);
  // Between two rounds over the endpoints: the first delay, doubled each time, and the longest.
  static constexpr absl::Duration kFirstDelay = absl::Milliseconds(250);
  static constexpr absl::Duration kLongestDelay = absl::Seconds(10);

  struct Status {
    bool registered = false;  // as far as is known: the lease was kept within its time
    uint64_t failures = 0;    // calls of etcd's that failed, and leases that were lost
  };

  // pem.h has the errors of files; RESOURCE_EXHAUSTED: there is no thread. Whether etcd answers is
  // none of them. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<Registration>> Start(RegistrationOptions options,
                                                             Clock* clock,
                                                             std::shared_ptr<spdlog::logger> log);
  // Deregisters, and waits until that is done: for a call's time (kCallTime) at most where etcd
  // does not answer. The lease then ends by itself.
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  Status status() const;
  // Registers no more: the thread takes the key back, and this returns at once.
  void Deregister() { stop_.request_stop(); }

 private:
  Registration(RegistrationOptions options, Clock* clock, std::shared_ptr<spdlog::logger> log);
  absl::Status Open();
  std::unique_ptr<etcd::Client> MakeClient(std::stop_token stop) const;
  // A lease, and the key under it.
  absl::Status Register();
  // Keeps the lease, and sees to it that the key is there. NOT_FOUND: the lease is lost.
  absl::Status KeepAlive();
  absl::Status PutKey();
  // One of the two, whichever is due, and how it went.
  absl::Status Step();
  // The lease was renewed after `began`.
  void Kept(MonotonicTime began);
  void Failed(const absl::Status& why);
  void Run();
  void TakeBack();

  const RegistrationOptions options_;
  Clock* const clock_;
  const std::shared_ptr<spdlog::logger> log_;
  const std::string key_;
  std::unique_ptr<PemWatch> watch_;  // null without TLS
  mutable Mutex mutex_;
  MonotonicTime registered_until_ ABSL_GUARDED_BY(mutex_);
  uint64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  // The thread's.
  std::unique_ptr<etcd::Client> client_;
  int64_t lease_ = 0;  // 0: none
  absl::StatusCode told_ = absl::StatusCode::kOk;

  std::stop_source stop_;
  std::thread thread_;
};

}  // namespace engram
