#include "client/transport/rdma/rdma_lease.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/grpc/grpc_attach.h"
#include "memstore/base/clock.h"
#include "memstore/os/thread.h"
#include "memstore/rdma/request.h"

namespace engram {
namespace {

// What the owner has to make and to pin takes milliseconds.
constexpr absl::Duration kCallTime = absl::Seconds(5);

}  // namespace

absl::StatusOr<std::unique_ptr<RdmaLease>> RdmaLease::Open(
    const std::shared_ptr<grpc::Channel>& channel, const GrpcCredentials& credentials,
    const std::string& address, const std::string& set_id, bool reads, MonotonicTime deadline) {
  std::unique_ptr<RdmaLease> lease(new RdmaLease(address));
  lease->stub_ = v1::Lookup::NewStub(channel);
  credentials.Apply(&lease->context_);
  lease->stream_ = lease->stub_->AttachRdma(&lease->context_);
  absl::StatusOr<std::thread> reader =
      StartThread("engram-lease", [raw = lease.get()] { raw->Read(); });
  if (!reader.ok()) {
    lease->context_.TryCancel();
    return reader.status();
  }
  lease->reader_ = *std::move(reader);
  v1::RdmaAttachRequest request;
  request.mutable_open()->set_version(kRdmaVersion);
  request.mutable_open()->set_table_set_id(set_id);
  request.mutable_open()->set_mode(reads ? v1::RDMA_MODE_READ : v1::RDMA_MODE_WRITE);
  absl::StatusOr<v1::RdmaAttachResponse> response =
      lease->Call(request, std::min(deadline, RealClock().Now() + kCallTime));
  if (!response.ok()) return response.status();
  lease->offer_ = std::move(*response->mutable_offer());
  return lease;
}

RdmaLease::~RdmaLease() {
  if (!reader_.joinable()) return;
  // The owner learns of it at once either way; a cancelled call needs no answer.
  context_.TryCancel();
  reader_.join();
}

void RdmaLease::Read() {
  v1::RdmaAttachResponse response;
  while (stream_->Read(&response)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    response_ = response;
    changed_.notify_all();
  }
  const grpc::Status status = stream_->Finish();
  const std::lock_guard<std::mutex> lock(mutex_);
  end_ = status.ok() ? absl::UnavailableError(
                           absl::StrCat("engramd at ", address_, " ended the RDMA connection"))
                     : FromGrpc(status, address_);
  ended_.store(true, std::memory_order_release);
  changed_.notify_all();
}

absl::Status RdmaLease::End() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return end_;
}

absl::StatusOr<v1::RdmaAttachResponse> RdmaLease::Call(const v1::RdmaAttachRequest& request,
                                                       MonotonicTime deadline) {
  const std::lock_guard<std::mutex> call(call_mutex_);
  stream_->Write(request);  // a stream that is broken ends the reader
  std::unique_lock<std::mutex> lock(mutex_);
  const bool came = changed_.wait_until(lock, ToSteadyTime(deadline),
                                        [this] { return response_.has_value() || ended_.load(); });
  if (response_) return *std::exchange(response_, std::nullopt);
  if (came) return end_;
  // Its answer would be taken for the next call's.
  context_.TryCancel();
  return absl::UnavailableError(
      absl::StrCat("engramd at ", address_, " did not answer AttachRdma in time"));
}

absl::StatusOr<v1::RdmaConnected> RdmaLease::Connect(uint32_t port, const RdmaPeer& own) {
  v1::RdmaAttachRequest request;
  request.mutable_connect()->set_port(port);
  DescribeRdmaPeer(own, request.mutable_connect()->mutable_queue_pair());
  absl::StatusOr<v1::RdmaAttachResponse> response = Call(request, RealClock().Now() + kCallTime);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_connected());
}

absl::Status RdmaLease::Declare(uint32_t number, const RdmaRegion& region) {
  v1::RdmaAttachRequest request;
  v1::RdmaWindow* window = request.mutable_declare();
  window->set_number(number);
  window->set_address(reinterpret_cast<uintptr_t>(region.data()));
  window->set_bytes(region.bytes());
  window->set_key(region.remote_key());
  return Call(request, RealClock().Now() + kCallTime).status();
}

absl::Status RdmaLease::Forget(uint32_t number) {
  v1::RdmaAttachRequest request;
  request.set_forget(number);
  return Call(request, RealClock().Now() + kCallTime).status();
}

void DescribeRdmaPeer(const RdmaPeer& peer, v1::RdmaQueuePair* pair) {
  pair->set_number(peer.queue_pair);
  pair->set_first_sequence(peer.first_sequence);
  pair->set_gid(peer.gid.data(), peer.gid.size());
  pair->set_lid(peer.lid);
  pair->set_mtu(peer.mtu);
  pair->set_reads(peer.reads);
}

absl::StatusOr<RdmaPeer> ReadRdmaPeer(const v1::RdmaQueuePair& pair) {
  RdmaPeer peer{.queue_pair = pair.number(),
                .first_sequence = pair.first_sequence(),
                .gid = {},
                .lid = static_cast<uint16_t>(pair.lid()),
                .mtu = pair.mtu(),
                .reads = pair.reads()};
  if (pair.gid().size() != peer.gid.size()) {
    return absl::InvalidArgumentError("a GID has 16 bytes");
  }
  std::copy(pair.gid().begin(), pair.gid().end(), peer.gid.begin());
  return peer;
}

}  // namespace engram
