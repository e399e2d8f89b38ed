#include "client/cluster/discovery/etcd_discovery.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "memstore/base/stoppable_sleep.h"
#include "memstore/discovery/etcd_security.h"
#include "memstore/os/thread.h"
#include "proto/etcd/etcd_client.h"
#include "proto/etcd/etcd_watch.h"
#include "proto/etcd/rpc.pb.h"

namespace engram {
namespace {

absl::Status CheckSecurity(const EtcdSecurity& security, const EtcdPlace& place) {
  if (security.cert.empty() != security.key.empty()) {
    return absl::InvalidArgumentError(
        "the certificate that is shown to etcd and its key go together: give --etcd-cert and "
        "--etcd-key, or neither");
  }
  if (security.ca.empty() && !(security.cert.empty() && security.server_name.empty())) {
    return absl::InvalidArgumentError(
        "without the authority of etcd's certificate nothing speaks TLS with it: give --etcd-ca "
        "FILE");
  }
  if (security.user.empty() != security.password_file.empty()) {
    return absl::InvalidArgumentError(
        "etcd's user and the file of the password go together: give --etcd-user and "
        "--etcd-password-file, or neither");
  }
  if (security.user.empty() || !security.ca.empty() || place.IsLoopback()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the password would travel to ", absl::StrJoin(place.endpoints, ", "),
                   " in the clear: give the authority of etcd's certificate, --etcd-ca FILE"));
}

absl::Status AsFinal(const absl::Status& file) {
  return absl::IsNotFound(file) ? absl::FailedPreconditionError(file.message()) : file;
}

}  // namespace

EtcdDiscovery::EtcdDiscovery(const ClusterTarget& target, const DiscoveryOptions& options,
                             Clock& clock)
    : place_(target.etcd),
      tls_server_name_(options.tls_server_name),
      clock_(clock),
      known_(options),
      keys_(target.etcd, [this](const absl::Status& why) { known_.Tell(why); }) {}

// Other errors of etcd's may pass while a client attaches; that its own file is absent does not.
absl::Status EtcdDiscovery::OpenClient(const EtcdSecurity& security) {
  ENGRAM_RETURN_IF_ERROR(CheckSecurity(security, place_));
  if (!security.password_file.empty()) {
    ENGRAM_RETURN_IF_ERROR(AsFinal(ReadEtcdPassword(security.password_file).status()));
  }
  std::string authorities, pair;
  if (!security.ca.empty()) {
    auto watch = PemWatch::Open(
        {.cert = security.cert, .key = security.key, .authorities = security.ca}, nullptr);
    ENGRAM_RETURN_IF_ERROR(AsFinal(watch.status()));
    watch_ = *std::move(watch);
    authorities = watch_->AuthoritiesPath();
    pair = watch_->PairPath();
  }
  etcd::ClientOptions options;
  options.endpoints = place_.endpoints;
  options.credentials = etcd::MakeCredentials(authorities, pair);
  options.tls = watch_ != nullptr;
  options.server_name = security.server_name;
  options.user = security.user;
  options.password = [path = security.password_file] { return ReadEtcdPassword(path); };
  options.now = [this] { return std::chrono::nanoseconds(clock_.Now().nanoseconds()); };
  client_ = std::make_unique<etcd::Client>(std::move(options), stop_.get_token());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Discovery>> EtcdDiscovery::Start(const ClusterTarget& target,
                                                                const DiscoveryOptions& options,
                                                                Clock& clock) {
  std::unique_ptr<EtcdDiscovery> discovery(new EtcdDiscovery(target, options, clock));
  ENGRAM_RETURN_IF_ERROR(discovery->OpenClient(options.etcd));
  ENGRAM_RETURN_IF_ERROR(discovery->ListAnywhere());
  ENGRAM_ASSIGN_OR_RETURN(discovery->thread_,
                          StartThread("discovery", [raw = discovery.get()] { raw->Run(); }));
  return discovery;
}

EtcdDiscovery::~EtcdDiscovery() {
  stop_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void EtcdDiscovery::Publish() {
  std::vector<StoreAddress> addresses;
  for (std::string& address : keys_.Addresses()) {
    addresses.push_back({std::move(address), tls_server_name_});
  }
  ignored_.store(keys_.ignored());
  known_.Set(std::move(addresses));
}

absl::Status EtcdDiscovery::ListAnywhere() {
  std::vector<std::string> words;
  for (size_t tried = 0;; ++tried) {
    absl::Status status = List();
    if (status.ok()) return status;
    words.emplace_back(status.message());
    if (tried + 1 == client_->endpoints()) {
      return absl::Status(status.code(), MessageLine(absl::StrJoin(words, "; ")));
    }
    client_->NextEndpoint();
  }
}

absl::Status EtcdDiscovery::List() {
  etcdserverpb::RangeRequest request;
  request.set_key(place_.KeyPrefix());
  request.set_range_end(place_.KeyRangeEnd());
  ENGRAM_ASSIGN_OR_RETURN(const etcdserverpb::RangeResponse response, client_->Range(request));
  keys_.Clear();
  for (const mvccpb::KeyValue& one : response.kvs()) keys_.Put(one.key(), one.value());
  revision_ = response.header().revision();
  cluster_id_ = response.header().cluster_id();
  listed_ = true;
  Publish();
  return absl::OkStatus();
}

EtcdDiscovery::Ended EtcdDiscovery::Follow() {
  etcd::WatchStream watch(*client_, place_.KeyPrefix(), place_.KeyRangeEnd(), revision_ + 1);
  while (true) {
    const absl::StatusOr<etcdserverpb::WatchResponse> response = watch.Next();
    if (!response.ok()) {
      // Of a connection that broke nothing is lost. Anything else may come again from what is there
      // (a message that is too long), and only a list leads past it.
      const absl::StatusCode code = response.status().code();
      return {response.status(), code != absl::StatusCode::kUnavailable &&
                                     code != absl::StatusCode::kDeadlineExceeded};
    }
    const etcdserverpb::ResponseHeader& header = response->header();
    if (header.cluster_id() != cluster_id_ || header.revision() < revision_ ||
        response->compact_revision() > 0) {
      return {absl::OkStatus(), /*relists=*/true};
    }
    if (response->canceled()) {
      // With a token that is refused etcd creates a watch and says here that it may not be.
      client_->ForgetToken();
      return {absl::PermissionDeniedError(
                  absl::StrCat("etcd at ", client_->endpoint(), " ended the watch: ",
                               MessageLine(response->cancel_reason(), kMaxPeerWordsBytes))),
              /*relists=*/true};
    }
    followed_ = true;
    known_.Recover();
    if (response->events().empty()) continue;
    for (const mvccpb::Event& event : response->events()) {
      if (event.type() == mvccpb::Event::DELETE) {
        keys_.Delete(event.kv().key());
      } else {
        keys_.Put(event.kv().key(), event.kv().value());
      }
      // Not the header's: of many events at once it may be ahead of those that came.
      revision_ = std::max(revision_, event.kv().mod_revision());
    }
    Publish();
  }
}

void EtcdDiscovery::Run() {
  const std::stop_token stop = stop_.get_token();
  absl::Duration delay = kFirstDelay;
  size_t failed = 0;  // endpoints, one after the other
  while (!stop.stop_requested()) {
    followed_ = false;
    Ended ended;
    if (!listed_) ended = {List(), false};
    if (listed_ && ended.status.ok()) ended = Follow();
    if (stop.stop_requested()) return;
    if (ended.relists) listed_ = false;
    if (followed_) {
      delay = kFirstDelay;
      failed = 0;
    }
    if (!ended.status.ok()) {
      known_.Fail(absl::Status(ended.status.code(),
                               absl::StrCat(ended.status.message(), "; the last addresses go on")));
      client_->NextEndpoint();
      // The others first, at once.
      if (++failed % client_->endpoints() != 0) continue;
    }
    // Also before it is listed anew: an etcd whose members disagree would be asked without an end.
    if (SleepUnlessStopped(clock_, delay, stop)) return;
    delay = std::min(2 * delay, kLongestDelay);
  }
}

}  // namespace engram
