#include "client/transport/rdma/rdma_connection.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "proto/rpc/queue_pair.h"

namespace engram {
namespace {

// How long a queue pair in error may take to give back what was posted; then it is destroyed, which
// waits for it in any case.
constexpr absl::Duration kDrainTime = absl::Milliseconds(200);
constexpr absl::Duration kDrainPause = absl::Microseconds(100);
// Completions taken at once.
constexpr size_t kPollBatch = 16;

}  // namespace

absl::StatusOr<std::pair<std::shared_ptr<const RdmaDevice>, uint32_t>> ChooseRdmaDevice(
    const v1::RdmaOffer& offer, absl::string_view device) {
  if (offer.ports().empty()) return absl::NotFoundError("the owner offers no RDMA port");
  std::shared_ptr<const RdmaDevice> named;
  if (!device.empty()) {
    const absl::StatusOr<RdmaDeviceChoice> choice = ParseRdmaDeviceChoice(device);
    if (!choice.ok()) return choice.status();
    auto opened = RdmaDevice::Open(*choice);
    if (!opened.ok()) return opened.status();
    named = *std::move(opened);
  }
  // Each client begins with another port, so that several are used.
  std::random_device random;
  const auto ports = static_cast<uint32_t>(offer.ports_size());
  const uint32_t first = random() % ports;
  std::string tried;
  for (uint32_t i = 0; i < ports; ++i) {
    const uint32_t at = (first + i) % ports;
    const v1::RdmaPort& port = offer.ports(static_cast<int>(at));
    RdmaGid gid{};
    if (port.gid().size() != gid.size()) continue;
    std::copy(port.gid().begin(), port.gid().end(), gid.begin());
    const absl::StatusOr<RdmaDeviceChoice> choice = RdmaRouteTo(gid);
    absl::Status status = choice.status();
    if (choice.ok() && named != nullptr) {
      if (choice->device == ibv_get_device_name(named->context()->device)) {
        return std::make_pair(std::move(named), at);
      }
      continue;
    }
    if (choice.ok()) {
      auto opened = RdmaDevice::Open(*choice);
      if (opened.ok()) return std::make_pair(*std::move(opened), at);
      status = opened.status();
    }
    absl::StrAppend(&tried, "; the owner's ", port.name(), ": ", status.message());
  }
  // Who names a device knows better than the host's routes.
  if (named != nullptr) return std::make_pair(std::move(named), first);
  return absl::NotFoundError(
      absl::StrCat("no RDMA device of this machine leads to the owner", tried));
}

absl::StatusOr<std::shared_ptr<RdmaConnection>> RdmaConnection::Connect(
    const RdmaRoute& route, std::unique_ptr<RdmaLease> lease, MonotonicTime deadline) {
  std::shared_ptr<RdmaConnection> connection(new RdmaConnection(route, std::move(lease)));
  ENGRAM_RETURN_IF_ERROR(connection->Open(route, deadline));
  return connection;
}

RdmaConnection::~RdmaConnection() { Close(); }

absl::Status RdmaConnection::Open(const RdmaRoute& route, MonotonicTime deadline) {
  const std::shared_ptr<const RdmaDevice>& device = route.domain->device();
  ENGRAM_ASSIGN_OR_RETURN(channel_, RdmaChannel::Create(device));
  RdmaQueueSizes sizes{.sends = kRdmaReadQueue, .receives = 1};
  if (!route.reads) {
    sizes = {.sends = kRdmaClientSendQueue,
             .receives = kRdmaClientReceives,
             .inline_bytes = kRdmaInlineBytes};
    ENGRAM_ASSIGN_OR_RETURN(
        requests_, RdmaBuffer::Create(route.domain, uint64_t{kRdmaCredits} * kRdmaRequestBytes, 0));
    ENGRAM_ASSIGN_OR_RETURN(
        receives_,
        RdmaBuffer::Create(route.domain, uint64_t{kRdmaClientReceives} * kRdmaRefusalBytes,
                           IBV_ACCESS_LOCAL_WRITE));
  }
  ENGRAM_ASSIGN_OR_RETURN(completions_,
                          RdmaCompletions::Create(channel_, *device, sizes.sends + sizes.receives));
  ENGRAM_ASSIGN_OR_RETURN(pair_, RdmaQueuePair::Create(route.domain, completions_, sizes,
                                                       route.reads ? 0 : IBV_ACCESS_REMOTE_WRITE));
  for (uint32_t i = 0; !route.reads && i < kRdmaClientReceives; ++i) {
    ENGRAM_RETURN_IF_ERROR(PostReceive(i));
  }
  ENGRAM_ASSIGN_OR_RETURN(connected_, lease_->Connect(route.port, pair_.Own(), deadline));
  ENGRAM_ASSIGN_OR_RETURN(const RdmaPeer peer, ReadQueuePair<RdmaPeer>(connected_.queue_pair()));
  return pair_.Connect(peer);
}

absl::Status RdmaConnection::Ended() const {
  return lease_->ended() ? lease_->End() : absl::OkStatus();
}

void RdmaConnection::Sleep(absl::Duration most) {
  pollfd wait{channel_->fd(), POLLIN, 0};
  const timespec time = absl::ToTimespec(most);
  ppoll(&wait, 1, &time, nullptr);
  channel_->TakeEvents();
}

absl::StatusOr<bool> RdmaConnection::TakeCompletions(
    absl::FunctionRef<absl::Status(const ibv_wc&)> take) {
  std::array<ibv_wc, kPollBatch> completions;
  const int count = completions_.Poll(absl::MakeSpan(completions));
  if (count < 0) return absl::UnavailableError("the completion queue is broken");
  counts_.completions += static_cast<uint64_t>(count);
  for (int i = 0; i < count; ++i) {
    if (completions[i].status != IBV_WC_SUCCESS) {
      return absl::UnavailableError(absl::StrCat("the RDMA connection to engramd at ", address_,
                                                 " broke: ", RdmaFailure(completions[i])));
    }
    ENGRAM_RETURN_IF_ERROR(take(completions[i]));
  }
  return count > 0;
}

absl::Status RdmaConnection::PostReads(ibv_send_wr* first, uint32_t count) {
  counts_.sends += count;
  ++counts_.doorbells;
  return pair_.PostSends(first, "reads");
}

absl::Status RdmaConnection::SendRequest(uint32_t slot, uint32_t bytes) {
  ibv_sge piece{reinterpret_cast<uintptr_t>(request(slot)), bytes, requests_.local_key()};
  ibv_send_wr send{};
  send.sg_list = &piece;
  send.num_sge = 1;
  send.opcode = IBV_WR_SEND;
  if (bytes <= pair_.inline_bytes()) send.send_flags |= IBV_SEND_INLINE;
  ++unsignalled_;
  ++unacknowledged_;
  if (unsignalled_ == kRdmaSignalEvery) {
    send.send_flags |= IBV_SEND_SIGNALED;
    send.wr_id = kSent | unsignalled_;
    unsignalled_ = 0;
  }
  ++counts_.sends;
  ++counts_.doorbells;
  return pair_.PostSends(&send, "a request");
}

void RdmaConnection::Close() {
  if (pair_.get() == nullptr) return;
  pair_.MoveToError();
  // What was posted last is given back last.
  const MonotonicTime end = clock_.After(kDrainTime);
  std::array<ibv_wc, kPollBatch> completions;
  bool flushed = false;
  while (clock_.Now() < end) {
    const int count = completions_.Poll(absl::MakeSpan(completions));
    if (count < 0 || (count == 0 && flushed)) break;
    if (count > 0) flushed = completions[count - 1].status == IBV_WC_WR_FLUSH_ERR;
    if (count == 0) clock_.SleepFor(kDrainPause);
  }
  pair_ = {};  // waits until the device has let go of it
}

}  // namespace engram
