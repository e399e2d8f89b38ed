#include "client/transport/rdma/rdma_connection.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

// How long a queue pair in error may take to give back what was posted; then it is destroyed, which
// waits for it in any case.
constexpr absl::Duration kDrainTime = absl::Milliseconds(200);

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

absl::StatusOr<std::unique_ptr<RdmaConnection>> RdmaConnection::Connect(
    const RdmaRoute& route, std::unique_ptr<RdmaLease> lease) {
  std::unique_ptr<RdmaConnection> connection(new RdmaConnection);
  connection->lease_ = std::move(lease);
  absl::Status status = connection->Open(route);
  if (!status.ok()) return status;
  return connection;
}

RdmaConnection::~RdmaConnection() { Close(); }

absl::Status RdmaConnection::Open(const RdmaRoute& route) {
  const std::shared_ptr<const RdmaDevice>& device = route.domain->device();
  absl::StatusOr<std::shared_ptr<RdmaChannel>> channel = RdmaChannel::Create(device);
  if (!channel.ok()) return channel.status();
  channel_ = *std::move(channel);
  const auto make = [&](uint64_t bytes, int access, RdmaBuffer* buffer) -> absl::Status {
    absl::StatusOr<RdmaBuffer> made = RdmaBuffer::Create(route.domain, bytes, access);
    if (made.ok()) *buffer = *std::move(made);
    return made.status();
  };
  RdmaQueueSizes sizes{.sends = kRdmaReadQueue, .receives = 1};
  if (!route.reads) {
    sizes = {.sends = kRdmaClientSendQueue,
             .receives = kRdmaClientReceives,
             .inline_bytes = kRdmaInlineBytes};
    absl::Status status = make(uint64_t{kRdmaCredits} * kRdmaRequestBytes, 0, &requests_);
    if (status.ok()) {
      status = make(uint64_t{kRdmaClientReceives} * kRdmaRefusalBytes, IBV_ACCESS_LOCAL_WRITE,
                    &receives_);
    }
    if (!status.ok()) return status;
  }
  absl::StatusOr<RdmaCompletions> completions =
      RdmaCompletions::Create(channel_, *device, sizes.sends + sizes.receives);
  if (!completions.ok()) return completions.status();
  completions_ = *std::move(completions);
  absl::StatusOr<RdmaQueuePair> pair = RdmaQueuePair::Create(
      route.domain, completions_, sizes, route.reads ? 0 : IBV_ACCESS_REMOTE_WRITE);
  if (!pair.ok()) return pair.status();
  pair_ = *std::move(pair);
  for (uint32_t i = 0; !route.reads && i < kRdmaClientReceives; ++i) {
    if (absl::Status status = PostReceive(i); !status.ok()) return status;
  }
  absl::StatusOr<v1::RdmaConnected> connected = lease_->Connect(route.port, pair_.Own());
  if (!connected.ok()) return connected.status();
  connected_ = *std::move(connected);
  const absl::StatusOr<RdmaPeer> peer = ReadRdmaPeer(connected_.queue_pair());
  return peer.ok() ? pair_.Connect(*peer) : peer.status();
}

absl::Status RdmaConnection::PostReceive(uint64_t wr_id) {
  ibv_sge piece{reinterpret_cast<uintptr_t>(receives_.data()) + wr_id * kRdmaRefusalBytes,
                kRdmaRefusalBytes, receives_.local_key()};
  ibv_recv_wr request{}, *bad = nullptr;
  request.wr_id = wr_id;
  request.sg_list = &piece;
  request.num_sge = 1;
  const int error = ibv_post_recv(pair_.get(), &request, &bad);
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot post a receive: ", strerrordesc_np(error)));
}

absl::Status RdmaConnection::SendRequest(uint32_t slot, uint32_t bytes) {
  ibv_sge piece{reinterpret_cast<uintptr_t>(request(slot)), bytes, requests_.local_key()};
  ibv_send_wr send{}, *bad = nullptr;
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
  const int error = ibv_post_send(pair_.get(), &send, &bad);
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot post a request: ", strerrordesc_np(error)));
}

void RdmaConnection::Close() {
  if (pair_.get() == nullptr) return;
  pair_.MoveToError();
  // What was posted last is given back last.
  const MonotonicTime end = RealClock().Now() + kDrainTime;
  std::array<ibv_wc, 16> completions;
  bool flushed = false;
  while (RealClock().Now() < end) {
    const int count = completions_.Poll(absl::MakeSpan(completions));
    if (count < 0 || (count == 0 && flushed)) break;
    if (count > 0) flushed = completions[count - 1].status == IBV_WC_WR_FLUSH_ERR;
    if (count == 0) absl::SleepFor(absl::Microseconds(100));
  }
  pair_ = {};  // waits until the device has let go of it
}

}  // namespace engram
