#include "client/follower.h"

#include <chrono>
#include <condition_variable>
#include <utility>

#include "memstore/os/thread.h"

namespace engram {
namespace {

// Before what failed is tried again.
constexpr std::chrono::milliseconds kAgain{200};
constexpr absl::Duration kAttachTime = absl::Seconds(5);

}  // namespace

absl::StatusOr<std::unique_ptr<Follower>> Follower::Attach(absl::string_view target,
                                                           const AttachOptions& options,
                                                           Prepare prepare) {
  std::unique_ptr<Follower> follower(
      new Follower(std::string(target), options, std::move(prepare)));
  absl::StatusOr<std::shared_ptr<Client>> client = follower->AttachNext();
  if (!client.ok()) return client.status();
  follower->client_ = *std::move(client);
  const Manifest& set = follower->client_->table_set();
  if (options.table_set == set.id) return follower;
  // From here on by name, whatever else is published beside it.
  follower->options_.table_set = set.name;
  follower->options_.timeout = kAttachTime;
  absl::StatusOr<std::thread> thread =
      StartThread("engram-follow", [raw = follower.get()] { raw->Run(raw->stop_.get_token()); });
  if (!thread.ok()) return thread.status();
  follower->thread_ = *std::move(thread);
  return follower;
}

Follower::~Follower() {
  stop_.request_stop();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<std::shared_ptr<Client>> Follower::AttachNext() {
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Attach(target_, options_);
  if (!client.ok()) return client.status();
  if (prepare_) {
    if (absl::Status status = prepare_(**client); !status.ok()) return status;
  }
  return std::shared_ptr<Client>(*std::move(client));
}

std::shared_ptr<Client> Follower::BeginStep() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return client_;
}

absl::Status Follower::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void Follower::Say(absl::Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  status_ = std::move(status);
}

void Follower::Run(const std::stop_token& stop) {
  const auto pause = [&stop] {
    std::mutex mutex;
    std::condition_variable_any again;
    std::unique_lock<std::mutex> lock(mutex);
    again.wait_for(lock, stop, kAgain, [] { return false; });
  };
  while (!stop.stop_requested()) {
    const std::shared_ptr<Client> now = BeginStep();
    const absl::Status superseded = now->transport().WaitSuperseded(stop);
    if (absl::IsUnimplemented(superseded)) return;
    if (!superseded.ok()) {
      if (!stop.stop_requested()) Say(superseded);
      pause();
      continue;
    }
    absl::StatusOr<std::shared_ptr<Client>> next = AttachNext();
    if (next.ok()) {
      std::shared_ptr<Client> before;  // let go of after the lock
      const std::lock_guard<std::mutex> lock(mutex_);
      before = std::exchange(client_, *std::move(next));
      status_ = absl::OkStatus();
    } else {
      Say(next.status());
      pause();
    }
  }
}

}  // namespace engram
