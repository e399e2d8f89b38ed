#include "client/follower.h"

#include <utility>

#include "memstore/base/status_macros.h"
#include "memstore/base/stoppable_sleep.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

// Before what failed is tried again.
constexpr absl::Duration kAgain = absl::Milliseconds(200);
constexpr absl::Duration kAttachTime = absl::Seconds(5);

}  // namespace

absl::StatusOr<std::unique_ptr<Follower>> Follower::Attach(absl::string_view target,
                                                           const AttachOptions& options,
                                                           Prepare prepare) {
  std::unique_ptr<Follower> follower(
      new Follower(std::string(target), options, std::move(prepare)));
  ENGRAM_ASSIGN_OR_RETURN(const std::shared_ptr<Client> client, follower->AttachNext());
  follower->SetClient(client);
  const Manifest& set = client->table_set();
  if (options.table_set == set.id) return follower;
  // From here on by name, whatever else is published beside it.
  follower->options_.table_set = set.name;
  follower->options_.timeout = kAttachTime;
  ENGRAM_ASSIGN_OR_RETURN(follower->thread_, StartThread("engram-follow", [raw = follower.get()] {
                            raw->Run(raw->stop_.get_token());
                          }));
  return follower;
}

Follower::~Follower() {
  stop_.request_stop();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<std::shared_ptr<Client>> Follower::AttachNext() {
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<Client> client, Client::Attach(target_, options_));
  if (prepare_) ENGRAM_RETURN_IF_ERROR(prepare_(*client));
  return client;
}

std::shared_ptr<Client> Follower::BeginStep() {
  MutexLock lock(mutex_);
  return client_;
}

absl::Status Follower::status() const {
  MutexLock lock(mutex_);
  return status_;
}

void Follower::SetStatus(absl::Status status) {
  MutexLock lock(mutex_);
  status_ = std::move(status);
}

void Follower::SetClient(std::shared_ptr<Client> client) {
  {
    MutexLock lock(mutex_);
    client_.swap(client);
    status_ = absl::OkStatus();
  }
  // The one before is let go of here, after the lock: that may take a moment.
}

void Follower::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const absl::Status superseded = BeginStep()->transport().WaitSuperseded(stop);
    if (absl::IsUnimplemented(superseded)) return;
    absl::Status status = superseded;
    if (superseded.ok()) {
      absl::StatusOr<std::shared_ptr<Client>> next = AttachNext();
      if (next.ok()) {
        SetClient(*std::move(next));
        continue;
      }
      status = next.status();
    }
    if (stop.stop_requested()) return;
    SetStatus(std::move(status));
    SleepUnlessStopped(*options_.clock, kAgain, stop);
  }
}

}  // namespace engram
