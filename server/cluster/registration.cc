#include "server/cluster/registration.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/base/stoppable_sleep.h"
#include "memstore/discovery/registered_store.h"
#include "memstore/os/thread.h"
#include "proto/etcd/etcd_client.h"
#include "proto/etcd/rpc.pb.h"
#include "server/base/log.h"

namespace engram {
Registration::Registration(RegistrationOptions options, Clock* clock,
                           std::shared_ptr<spdlog::logger> log)
    : options_(std::move(options)),
      clock_(clock),
      log_(std::move(log)),
      key_(StoreKey(options_.place, options_.instance_id)) {}

absl::StatusOr<std::unique_ptr<Registration>> Registration::Start(
    RegistrationOptions options, Clock* clock, std::shared_ptr<spdlog::logger> log) {
  std::unique_ptr<Registration> registration(
      new Registration(std::move(options), clock, std::move(log)));
  ENGRAM_RETURN_IF_ERROR(registration->Open());
  ENGRAM_ASSIGN_OR_RETURN(registration->thread_,
                          StartThread("registration", [raw = registration.get()] { raw->Run(); }));
  return registration;
}

absl::Status Registration::Open() {
  if (options_.security.ca.empty()) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(watch_, PemWatch::Open({.cert = options_.security.cert,
                                                  .key = options_.security.key,
                                                  .authorities = options_.security.ca},
                                                 nullptr));
  return absl::OkStatus();
}

std::unique_ptr<etcd::Client> Registration::MakeClient(std::stop_token stop) const {
  etcd::ClientOptions options;
  options.endpoints = options_.place.endpoints;
  options.credentials = etcd::MakeCredentials(watch_ ? watch_->AuthoritiesPath() : "",
                                              watch_ ? watch_->PairPath() : "");
  options.tls = watch_ != nullptr;
  options.server_name = options_.security.server_name;
  options.user = options_.security.user;
  options.password = [path = options_.security.password_file] { return ReadEtcdPassword(path); };
  options.now = [clock = clock_] { return std::chrono::nanoseconds(clock->Now().nanoseconds()); };
  return std::make_unique<etcd::Client>(std::move(options), std::move(stop));
}

Registration::~Registration() {
  Deregister();
  if (thread_.joinable()) thread_.join();
}

Registration::Status Registration::status() const {
  MutexLock lock(mutex_);
  return {.registered = clock_->Now() < registered_until_, .failures = failures_};
}

absl::Status Registration::PutKey() {
  etcdserverpb::PutRequest put;
  put.set_key(key_);
  put.set_value(StoreValue(options_.address));
  put.set_lease(lease_);
  return client_->Put(put).status();
}

absl::Status Registration::Register() {
  ENGRAM_ASSIGN_OR_RETURN(lease_, client_->GrantLease(kLease));
  return PutKey();
}

absl::Status Registration::KeepAlive() {
  ENGRAM_RETURN_IF_ERROR(client_->KeepAlive(lease_));
  etcdserverpb::RangeRequest request;
  request.set_key(key_);
  request.set_count_only(true);
  ENGRAM_ASSIGN_OR_RETURN(const etcdserverpb::RangeResponse there, client_->Range(request));
  return there.count() > 0 ? absl::OkStatus() : PutKey();
}

absl::Status Registration::Step() {
  absl::Status status = lease_ == 0 ? Register() : KeepAlive();
  // There is no such lease.
  if (absl::IsNotFound(status)) lease_ = 0;
  return status;
}

void Registration::Kept(MonotonicTime began) {
  bool is_news = told_ != absl::StatusCode::kOk;
  told_ = absl::StatusCode::kOk;
  {
    MutexLock lock(mutex_);
    is_news = is_news || registered_until_ == MonotonicTime();
    registered_until_ = began + absl::FromChrono(kLease);
  }
  if (!is_news) return;
  LogEvent(*log_, spdlog::level::info, "registered",
           {{"address", options_.address}, {"key", key_}, {"etcd", client_->endpoint()}},
           absl::StrCat("registered as ", options_.address, " in etcd at ", client_->endpoint(),
                        ", key ", key_));
}

void Registration::Failed(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    ++failures_;
    if (absl::IsNotFound(why)) registered_until_ = MonotonicTime();
  }
  // Once for each reason, until it is registered again.
  if (told_ == why.code()) return;
  told_ = why.code();
  LogEvent(*log_, spdlog::level::warn, "registration_failed",
           {{"address", options_.address}, {"code", absl::StatusCodeToString(why.code())}},
           absl::StrCat("not registered in etcd, or not for long: ", why.message(),
                        "; lookups are served, and it is tried again"));
}

void Registration::Run() {
  const std::stop_token stop = stop_.get_token();
  client_ = MakeClient(stop);
  absl::Duration delay = kFirstDelay;
  size_t failed = 0;  // endpoints, one after the other
  while (!stop.stop_requested()) {
    const MonotonicTime began = clock_->Now();
    const absl::Status status = Step();
    if (stop.stop_requested()) break;
    if (status.ok()) {
      Kept(began);
      delay = kFirstDelay;
      failed = 0;
      if (SleepUnlessStopped(*clock_, kKeepAlive, stop)) break;
      continue;
    }
    Failed(status);
    // A lease that is lost says that etcd answers: another one at once.
    if (absl::IsNotFound(status) && failed++ == 0) continue;
    client_->NextEndpoint();
    if (++failed % client_->endpoints() != 0) continue;
    if (SleepUnlessStopped(*clock_, delay, stop)) break;
    delay = std::min(2 * delay, kLongestDelay);
  }
  TakeBack();
}

void Registration::TakeBack() {
  {
    MutexLock lock(mutex_);
    registered_until_ = MonotonicTime();
  }
  if (lease_ == 0) return;
  // The one that there is was stopped.
  const std::string endpoint = client_->endpoint();
  client_ = MakeClient(std::stop_token());
  while (client_->endpoint() != endpoint) client_->NextEndpoint();
  const absl::Status status = client_->RevokeLease(lease_);
  if (status.ok() || absl::IsNotFound(status)) {
    LogEvent(*log_, spdlog::level::info, "deregistered", {{"key", key_}},
             absl::StrCat("took the key ", key_, " back from etcd"));
    return;
  }
  LogEvent(*log_, spdlog::level::warn, "registration_failed",
           {{"address", options_.address}, {"code", absl::StatusCodeToString(status.code())}},
           absl::StrCat("the key ", key_, " was not taken back, and goes within ", kLease.count(),
                        " s: ", status.message()));
}

}  // namespace engram
