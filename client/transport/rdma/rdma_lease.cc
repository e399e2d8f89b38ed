#include "client/transport/rdma/rdma_lease.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/grpc/grpc_channel.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "memstore/rdma/request.h"
#include "proto/rpc/queue_pair.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// What the owner has to make and to pin takes milliseconds.
constexpr absl::Duration kCallTime = absl::Seconds(5);

std::string DidNotAnswer(const std::string& address) {
  return absl::StrCat("engramd at ", address, " did not answer AttachRdma in time");
}

}  // namespace

absl::StatusOr<std::unique_ptr<RdmaLease>> RdmaLease::Open(const RdmaRoute& route,
                                                           MonotonicTime deadline) {
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<RdmaLease> lease, Begin(route));
  const absl::Status offered = lease->AwaitOffer(std::min(deadline, lease->begun() + kCallTime));
  if (absl::IsDeadlineExceeded(offered) && !lease->ended()) {
    return absl::UnavailableError(offered.message());
  }
  ENGRAM_RETURN_IF_ERROR(offered);
  return lease;
}

absl::StatusOr<std::unique_ptr<RdmaLease>> RdmaLease::Begin(const RdmaRoute& route) {
  std::unique_ptr<RdmaLease> lease(new RdmaLease(route.grpc->address(), route.grpc->clock()));
  lease->stub_ = v1::Lookup::NewStub(route.grpc->channel());
  route.grpc->credentials().Apply(&lease->context_);
  lease->stream_ = lease->stub_->PrepareAsyncAttachRdma(&lease->context_, &lease->queue_);
  ENGRAM_ASSIGN_OR_RETURN(lease->reader_,
                          StartThread("engram-lease", [raw = lease.get()] { raw->TakeEvents(); }));
  lease->stream_->StartCall(lease->started_.tag());
  v1::RdmaAttachRequest request;
  request.mutable_open()->set_version(kRdmaVersion);
  request.mutable_open()->set_table_set_id(route.set_id);
  request.mutable_open()->set_mode(route.reads ? v1::RDMA_MODE_READ : v1::RDMA_MODE_WRITE);
  request.mutable_open()->add_features(std::string(wire::kTokenSlices));
  request.mutable_open()->add_features(std::string(wire::kImageChecks));
  request.mutable_open()->set_engram_version(kEngramVersion);
  RdmaLease& begun = *lease;
  const MutexLock lock(begun.mutex_);
  begun.outgoing_ = std::move(request);
  begun.WriteOutgoing();
  return lease;
}

absl::Status RdmaLease::AwaitOffer(MonotonicTime deadline) {
  const MutexLock call(call_mutex_);
  {
    const MutexLock lock(mutex_);
    while (!response_.has_value() && !ended_.load() && clock_.Now() < deadline) {
      clock_.WaitUntil(changed_, mutex_, deadline);
    }
    if (!response_.has_value()) {
      return ended_.load() ? end_ : absl::DeadlineExceededError(DidNotAnswer(address_));
    }
    offer_ = std::move(*response_->mutable_offer());
    response_.reset();
  }
  owner_features_ = {.name = absl::StrCat("engramd at ", address_),
                     .version = offer_.engram_version().substr(0, wire::kMostFeatureBytes),
                     .token_slices = wire::HasFeature(offer_.features(), wire::kTokenSlices),
                     .image_checks = wire::HasFeature(offer_.features(), wire::kImageChecks)};
  return absl::OkStatus();
}

RdmaLease::~RdmaLease() {
  if (!reader_.joinable()) return;
  // The owner learns of it at once either way; a cancelled call needs no answer.
  context_.TryCancel();
  reader_.join();
}

// Until the queue is shut down, which the stream's end does, and empty.
void RdmaLease::TakeEvents() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) rpc::QueueEvent::Dispatch(tag, ok);
}

void RdmaLease::OnStarted(bool ok) {
  if (!ok) return stream_->Finish(&status_, finished_.tag());
  const MutexLock lock(mutex_);
  stream_->Read(&incoming_, read_.tag());
  may_write_ = true;
  WriteOutgoing();
}

void RdmaLease::OnRead(bool ok) {
  if (!ok) return stream_->Finish(&status_, finished_.tag());
  const MutexLock lock(mutex_);
  response_ = std::move(incoming_);
  stream_->Read(&incoming_, read_.tag());
  changed_.NotifyAll();
}

// A stream that is broken ends the read that is always under way.
void RdmaLease::OnWritten(bool ok) {
  if (!ok) return;
  const MutexLock lock(mutex_);
  may_write_ = true;
  WriteOutgoing();
}

void RdmaLease::OnFinished(bool) {
  const MutexLock lock(mutex_);
  end_ = status_.ok() ? absl::UnavailableError(
                            absl::StrCat("engramd at ", address_, " ended the RDMA connection"))
                      : FromGrpc(status_, address_);
  ended_.store(true, std::memory_order_release);
  queue_.Shutdown();  // nothing is begun after it
  changed_.NotifyAll();
}

void RdmaLease::WriteOutgoing() {
  if (!may_write_ || !outgoing_.has_value() || ended_.load()) return;
  may_write_ = false;
  stream_->Write(*outgoing_, written_.tag());
  outgoing_.reset();
}

absl::Status RdmaLease::End() const {
  const MutexLock lock(mutex_);
  return end_;
}

absl::StatusOr<v1::RdmaAttachResponse> RdmaLease::Call(const v1::RdmaAttachRequest& request,
                                                       MonotonicTime deadline) {
  const MutexLock call(call_mutex_);
  deadline = std::min(deadline, clock_.After(kCallTime));
  const MutexLock lock(mutex_);
  if (!given_up_.ok()) return given_up_;
  outgoing_ = request;
  WriteOutgoing();
  while (!response_.has_value() && !ended_.load() && clock_.Now() < deadline) {
    clock_.WaitUntil(changed_, mutex_, deadline);
  }
  if (response_.has_value()) return *std::exchange(response_, std::nullopt);
  if (ended_.load()) return end_;
  // Its answer would be taken for the next call's.
  context_.TryCancel();
  return given_up_ = absl::UnavailableError(DidNotAnswer(address_));
}

absl::StatusOr<v1::RdmaConnected> RdmaLease::Connect(uint32_t port, const RdmaPeer& own,
                                                     MonotonicTime deadline) {
  v1::RdmaAttachRequest request;
  request.mutable_connect()->set_port(port);
  WriteQueuePair(own, request.mutable_connect()->mutable_queue_pair());
  ENGRAM_ASSIGN_OR_RETURN(v1::RdmaAttachResponse response, Call(request, deadline));
  return std::move(*response.mutable_connected());
}

absl::Status RdmaLease::Declare(uint32_t number, const RdmaRegion& region, MonotonicTime deadline) {
  v1::RdmaAttachRequest request;
  v1::RdmaWindow* window = request.mutable_declare();
  WriteWindow(region, window);
  window->set_number(number);
  return Call(request, deadline).status();
}

absl::Status RdmaLease::Forget(uint32_t number) {
  v1::RdmaAttachRequest request;
  request.set_forget(number);
  return Call(request, MonotonicTime::Infinite()).status();
}

absl::StatusOr<std::unique_ptr<RdmaLease>> RdmaNextLease::Await(const RdmaRoute& route,
                                                                MonotonicTime deadline) {
  if (kept_ != nullptr &&
      (kept_->ended() || route.grpc->clock().Now() - kept_->begun() > kKeptLeaseTime)) {
    kept_ = nullptr;
  }
  if (kept_ == nullptr) {
    ENGRAM_ASSIGN_OR_RETURN(kept_, RdmaLease::Begin(route));
  }
  absl::Status offered = kept_->AwaitOffer(deadline);
  if (absl::IsDeadlineExceeded(offered) && !kept_->ended()) {
    return absl::UnavailableError(offered.message());
  }
  std::unique_ptr<RdmaLease> lease = std::move(kept_);
  ENGRAM_RETURN_IF_ERROR(offered);
  return lease;
}

}  // namespace engram
