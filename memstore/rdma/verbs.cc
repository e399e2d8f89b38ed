#include "memstore/rdma/verbs.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/rdma/limits.h"

namespace engram {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kSequenceMask = 0xffffff;  // sequence numbers have 24 bits
constexpr uint8_t kHops = 64;

absl::Status Failed(absl::string_view what, const RdmaDevice& device, int error) {
  const std::string message =
      absl::StrCat(what, " on ", device.Name(), ": ", strerrordesc_np(error));
  if (error == ENOMEM || error == EAGAIN) {
    return absl::ResourceExhaustedError(absl::StrCat(
        message,
        "; the device is out of them, or RLIMIT_MEMLOCK is too low: `ulimit -l unlimited`"));
  }
  if (error == EPERM || error == EACCES) return absl::PermissionDeniedError(message);
  return absl::InternalError(message);
}

}  // namespace

absl::StatusOr<std::shared_ptr<RdmaDomain>> RdmaDomain::Create(
    std::shared_ptr<const RdmaDevice> device) {
  ibv_pd* const domain = ibv_alloc_pd(device->context());
  if (domain == nullptr) return Failed("no protection domain", *device, errno);
  return std::shared_ptr<RdmaDomain>(new RdmaDomain(std::move(device), domain));
}

absl::StatusOr<RdmaRegion> RdmaRegion::Register(std::shared_ptr<RdmaDomain> domain,
                                                absl::Span<std::byte> memory, int access) {
  ibv_mr* const region = ibv_reg_mr(domain->get(), memory.data(), memory.size(), access);
  if (region == nullptr) {
    return Failed(absl::StrCat("cannot register ", memory.size(), " bytes"), *domain->device(),
                  errno);
  }
  return RdmaRegion(std::move(domain), memory.data(), region);
}

absl::StatusOr<RdmaRegion> RdmaRegion::RegisterDmabuf(std::shared_ptr<RdmaDomain> domain, int fd,
                                                      uint64_t offset, absl::Span<std::byte> memory,
                                                      int access) {
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  ibv_mr* const region =
      ibv_reg_dmabuf_mr(domain->get(), offset, memory.size(), address, fd, access);
  if (region != nullptr) return RdmaRegion(std::move(domain), memory.data(), region);
  const int error = errno;
  const std::string what = absl::StrCat("cannot register the dma-buf ", fd);
  if (error == EOPNOTSUPP || error == ENOSYS) {
    return absl::UnimplementedError(
        absl::StrCat(what, ": ", domain->device()->Name(),
                     " has no dma-buf regions: land in host memory (Register)"));
  }
  if (error == EBADF || error == EINVAL) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": it is none, or has no ", memory.size(), " bytes at ", offset));
  }
  return Failed(what, *domain->device(), error);
}

absl::StatusOr<RdmaBuffer> RdmaBuffer::Create(std::shared_ptr<RdmaDomain> domain, uint64_t bytes,
                                              int access) {
  RdmaBuffer buffer;
  bytes = (bytes + kPage - 1) / kPage * kPage;  // pinned pages are this buffer's alone
  buffer.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes)));
  if (buffer.memory_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a buffer of ", bytes, " bytes"));
  }
  std::memset(buffer.memory_.get(), 0, bytes);
  absl::StatusOr<RdmaRegion> region =
      RdmaRegion::Register(std::move(domain), {buffer.memory_.get(), bytes}, access);
  if (!region.ok()) return region.status();
  buffer.region_ = *std::move(region);
  return buffer;
}

absl::StatusOr<std::shared_ptr<RdmaChannel>> RdmaChannel::Create(
    std::shared_ptr<const RdmaDevice> device) {
  ibv_comp_channel* const channel = ibv_create_comp_channel(device->context());
  if (channel == nullptr) return Failed("no completion channel", *device, errno);
  std::shared_ptr<RdmaChannel> made(new RdmaChannel(std::move(device), channel));
  const int flags = fcntl(channel->fd, F_GETFL);
  if (flags < 0 || fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return Failed("no completion channel", *made->device_, errno);
  }
  return made;
}

void RdmaChannel::TakeEvents() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  while (ibv_get_cq_event(channel_, &queue, &context) == 0) ibv_ack_cq_events(queue, 1);
}

absl::StatusOr<RdmaCompletions> RdmaCompletions::Create(std::shared_ptr<RdmaChannel> channel,
                                                        const RdmaDevice& device,
                                                        uint32_t entries) {
  ibv_cq* const queue =
      ibv_create_cq(device.context(), static_cast<int>(entries), nullptr, channel->get(), 0);
  if (queue == nullptr) {
    return Failed(absl::StrCat("no completion queue of ", entries), device, errno);
  }
  return RdmaCompletions(std::move(channel), queue);
}

absl::StatusOr<RdmaQueuePair> RdmaQueuePair::Create(std::shared_ptr<RdmaDomain> domain,
                                                    const RdmaCompletions& completions,
                                                    const RdmaQueueSizes& sizes,
                                                    int remote_access) {
  const RdmaDevice& device = *domain->device();
  ibv_qp_init_attr wanted{};
  wanted.send_cq = completions.get();
  wanted.recv_cq = completions.get();
  wanted.qp_type = IBV_QPT_RC;
  RdmaQueuePair made;
  // Devices differ in what they inline, and some refuse rather than give less.
  for (uint32_t inline_bytes = sizes.inline_bytes;; inline_bytes /= 2) {
    wanted.cap = {.max_send_wr = sizes.sends,
                  .max_recv_wr = sizes.receives,
                  .max_send_sge = sizes.pieces,
                  .max_recv_sge = 1,
                  .max_inline_data = inline_bytes};
    made.pair_.reset(ibv_create_qp(domain->get(), &wanted));
    if (made.pair_ != nullptr || inline_bytes == 0) break;
  }
  if (made.pair_ == nullptr) return Failed("no queue pair", device, errno);
  made.inline_bytes_ = std::min(wanted.cap.max_inline_data, sizes.inline_bytes);
  std::random_device random;
  made.first_sequence_ = random() & kSequenceMask;
  made.domain_ = std::move(domain);
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = device.port();
  attributes.qp_access_flags = static_cast<unsigned>(remote_access);
  const int error =
      ibv_modify_qp(made.get(), &attributes,
                    IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (error != 0) return Failed("a queue pair that is not made ready", device, error);
  return made;
}

RdmaPeer RdmaQueuePair::Own() const {
  const RdmaDevice& device = *domain_->device();
  return {.queue_pair = pair_->qp_num,
          .first_sequence = first_sequence_,
          .gid = device.gid(),
          .lid = device.lid(),
          .mtu = device.mtu(),
          .reads = static_cast<uint32_t>(std::clamp(device.attributes().max_qp_rd_atom, 1, 128))};
}

absl::Status RdmaQueuePair::Connect(const RdmaPeer& peer) {
  const RdmaDevice& device = *domain_->device();
  if (peer.mtu < IBV_MTU_256 || peer.mtu > IBV_MTU_4096 || peer.queue_pair > kSequenceMask ||
      peer.first_sequence > kSequenceMask || peer.reads < 1) {
    return absl::InvalidArgumentError("the peer's queue pair is not one that can be");
  }
  ibv_qp_attr to{};
  to.qp_state = IBV_QPS_RTR;
  to.path_mtu = static_cast<ibv_mtu>(std::min<uint32_t>(peer.mtu, device.mtu()));
  to.dest_qp_num = peer.queue_pair;
  to.rq_psn = peer.first_sequence;
  const uint32_t reads = std::min(peer.reads, Own().reads);
  to.max_dest_rd_atomic = static_cast<uint8_t>(reads);
  to.min_rnr_timer = kRdmaReceiverNotReadyTimer;
  to.ah_attr.is_global = 1;  // RoCE has no other way
  to.ah_attr.dlid = peer.lid;
  to.ah_attr.port_num = device.port();
  std::copy(peer.gid.begin(), peer.gid.end(), to.ah_attr.grh.dgid.raw);
  to.ah_attr.grh.sgid_index = static_cast<uint8_t>(device.gid_index());
  to.ah_attr.grh.hop_limit = kHops;
  int error = ibv_modify_qp(get(), &to,
                            IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                                IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (error == 0) {
    to = {};
    to.qp_state = IBV_QPS_RTS;
    to.sq_psn = first_sequence_;
    to.timeout = kRdmaAckTimeout;
    to.retry_cnt = kRdmaRetries;
    to.rnr_retry = kRdmaReceiverNotReadyRetries;
    to.max_rd_atomic = static_cast<uint8_t>(reads);
    error = ibv_modify_qp(get(), &to,
                          IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                              IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC);
  }
  if (error == 0) return absl::OkStatus();
  if (error == EINVAL || error == ENETUNREACH || error == EHOSTUNREACH || error == ETIMEDOUT) {
    return absl::InvalidArgumentError(absl::StrCat("the peer's queue pair is not reached from ",
                                                   device.Name(), ": ", strerrordesc_np(error)));
  }
  return Failed("a queue pair that is not connected", device, error);
}

absl::Status RdmaQueuePair::PostReceive(uint64_t wr_id, const RdmaBuffer& buffer, uint64_t offset,
                                        uint32_t bytes) const {
  ibv_sge piece{reinterpret_cast<uintptr_t>(buffer.data()) + offset, bytes, buffer.local_key()};
  ibv_recv_wr request{}, *bad = nullptr;
  request.wr_id = wr_id;
  request.sg_list = &piece;
  request.num_sge = 1;
  const int error = ibv_post_recv(get(), &request, &bad);
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot post a receive: ", strerrordesc_np(error)));
}

absl::Status RdmaQueuePair::PostSends(ibv_send_wr* first, absl::string_view what) const {
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(get(), first, &bad);
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot post ", what, ": ", strerrordesc_np(error)));
}

void RdmaQueuePair::MoveToError() const {
  ibv_qp_attr to{};
  to.qp_state = IBV_QPS_ERR;
  ibv_modify_qp(get(), &to, IBV_QP_STATE);
}

std::string RdmaFailure(const ibv_wc& completion) {
  absl::string_view hint;
  switch (completion.status) {
    case IBV_WC_RETRY_EXC_ERR:
      hint = ": the peer is gone or not reached";
      break;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      hint = ": the peer has no receive posted";
      break;
    case IBV_WC_REM_ACCESS_ERR:
      hint = ": a key or an address that the peer does not have registered for this";
      break;
    case IBV_WC_REM_INV_REQ_ERR:
      hint = ": the peer refused what was sent, as one longer than agreed";
      break;
    case IBV_WC_LOC_LEN_ERR:
      hint = ": a message longer than agreed";
      break;
    default:
      break;
  }
  return absl::StrCat(ibv_wc_status_str(completion.status), hint);
}

}  // namespace engram
