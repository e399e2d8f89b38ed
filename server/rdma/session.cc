#include "server/rdma/session.h"

#include <endian.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Completions taken at once: more would keep another client waiting.
constexpr size_t kPollBatch = 16;
// What a completion was of: a receive has its number, anything sent counts in posted_.
constexpr uint64_t kSent = uint64_t{1} << 32;

}  // namespace

RdmaSession::RdmaSession(RdmaServed served, RdmaOwnerCounts* counts)
    : served_(std::move(served)),
      lease_(served_.served.leases, LeaseKind::kRdmaWrite),
      clock_(*served_.clock),
      counts_(counts) {
  windows_.reserve(kRdmaWindows);
  counts_->clients.fetch_add(1);
}

RdmaSession::~RdmaSession() { counts_->clients.fetch_sub(1); }

absl::StatusOr<std::shared_ptr<RdmaSession>> RdmaSession::Create(
    std::shared_ptr<RdmaDomain> domain, std::shared_ptr<RdmaChannel> channel, RdmaServed served,
    const RdmaPeer& peer, RdmaOwnerCounts* counts) {
  std::shared_ptr<RdmaSession> session(new RdmaSession(std::move(served), counts));
  ENGRAM_RETURN_IF_ERROR(session->Open(std::move(domain), std::move(channel), peer));
  return session;
}

absl::Status RdmaSession::Open(std::shared_ptr<RdmaDomain> domain,
                               std::shared_ptr<RdmaChannel> channel, const RdmaPeer& peer) {
  const std::shared_ptr<const RdmaDevice> device = domain->device();
  ENGRAM_ASSIGN_OR_RETURN(receives_,
                          RdmaBuffer::Create(domain, uint64_t{kRdmaCredits} * kRdmaRequestBytes,
                                             IBV_ACCESS_LOCAL_WRITE));
  ENGRAM_ASSIGN_OR_RETURN(rows_, RdmaBuffer::Create(domain, kRdmaRingBytes, 0));
  ENGRAM_ASSIGN_OR_RETURN(
      refusals_, RdmaBuffer::Create(domain, uint64_t{kRdmaCredits} * kRdmaRefusalBytes, 0));
  ENGRAM_ASSIGN_OR_RETURN(
      completions_,
      RdmaCompletions::Create(std::move(channel), *device, kRdmaCredits + kRdmaOwnerSendQueue));
  // The owner's memory is nobody's to read or write: no remote access.
  constexpr RdmaQueueSizes kSizes{.sends = kRdmaOwnerSendQueue, .receives = kRdmaCredits};
  ENGRAM_ASSIGN_OR_RETURN(pair_, RdmaQueuePair::Create(std::move(domain), completions_, kSizes, 0));
  for (uint16_t i = 0; i < kRdmaCredits; ++i) ENGRAM_RETURN_IF_ERROR(PostReceive(i));
  return pair_.Connect(peer);
}

absl::Status RdmaSession::Declare(const RdmaClientWindow& window) {
  if (window.bytes == 0 || window.address + window.bytes < window.address) {
    return absl::InvalidArgumentError(
        absl::StrCat("window ", window.number, " is no memory: ", window.bytes, " bytes"));
  }
  const MutexLock lock(mutex_);
  for (const RdmaClientWindow& other : windows_) {
    if (other.number != window.number) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("window ", window.number, " is declared already: forget it first"));
  }
  if (windows_.size() == kRdmaWindows) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a client may declare ", kRdmaWindows, " landing buffers: register fewer, larger ones"));
  }
  windows_.push_back(window);
  return absl::OkStatus();
}

absl::Status RdmaSession::Forget(uint32_t number) {
  const MutexLock lock(mutex_);
  for (RdmaClientWindow& window : windows_) {
    if (window.number != number) continue;
    window = windows_.back();
    windows_.pop_back();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no window ", number, " to forget"));
}

absl::Status RdmaSession::Health() const {
  const MutexLock lock(mutex_);
  return health_;
}

void RdmaSession::Break(absl::Status status) {
  if (broken_) return;
  broken_ = true;
  pair_.MoveToError();
  lookup_.Release();
  serving_ = false;
  idle_.store(true);
  const MutexLock lock(mutex_);
  health_ = std::move(status);
}

bool RdmaSession::Advance() {
  if (broken_) return false;
  std::array<ibv_wc, kPollBatch> completions;
  const int count = completions_.Poll(absl::MakeSpan(completions));
  if (count > 0) counts_->completions.fetch_add(count, std::memory_order_relaxed);
  if (count < 0) Break(absl::InternalError("the completion queue is broken"));
  for (int i = 0; i < count && !broken_; ++i) TakeCompletion(completions[i]);
  if (broken_) return true;
  const bool served = Turn();
  idle_.store(!serving_ && waiting_head_ == waiting_tail_ && writes_out_ == 0);
  return count > 0 || served;
}

void RdmaSession::TakeCompletion(const ibv_wc& completion) {
  if (completion.status != IBV_WC_SUCCESS) {
    const std::string failure = RdmaFailure(completion);
    // Devices differ in what they call a message that its buffer does not hold.
    const bool received = completion.wr_id != kSent && completion.status != IBV_WC_WR_FLUSH_ERR;
    if (received || completion.status == IBV_WC_LOC_LEN_ERR) {
      return Break(absl::InvalidArgumentError(
          absl::StrCat("a request could not be received, which is so when it is longer than the ",
                       kRdmaRequestBytes, " bytes agreed: ", failure)));
    }
    if (completion.status == IBV_WC_REM_ACCESS_ERR) {
      return Break(absl::PermissionDeniedError(absl::StrCat(
          "rows could not be written to the window that the client declared: ", failure)));
    }
    return Break(absl::UnavailableError(absl::StrCat("the queue pair broke: ", failure)));
  }
  if (completion.wr_id == kSent) {
    ENGRAM_CHECK(posted_tail_ != posted_head_, "writes completed that were not posted");
    const Posted& posted = posted_[posted_tail_++ % posted_.size()];
    RecordSince(Stage::kSend, posted.since);
    ring_.FreeTo(posted.ring_head);
    ENGRAM_CHECK(writes_out_ >= posted.writes, "more writes completed than are under way");
    writes_out_ -= posted.writes;
    return;
  }
  // A receive is posted again once its request was served, however many the client sends.
  ENGRAM_CHECK(waiting_head_ - waiting_tail_ < kRdmaCredits, "more requests than receives");
  waiting_[waiting_head_++ % waiting_.size()] = {static_cast<uint16_t>(completion.wr_id),
                                                 completion.byte_len, clock_.Now()};
}

// The next request that is not refused; false when there is none.
bool RdmaSession::StartNext() {
  // A refusal takes a place in the queue, too.
  while (waiting_head_ != waiting_tail_ && writes_out_ < kRdmaOwnerSendQueue - kRdmaTurnWrites) {
    current_ = waiting_[waiting_tail_++ % waiting_.size()];
    counts_->requests.fetch_add(1, std::memory_order_relaxed);
    served_.metrics->Began();
    const MonotonicTime begin = clock_.Now();
    RecordSince(Stage::kQueue, current_.since);
    const absl::Status status = Start(current_);
    RecordSince(Stage::kPlan, begin);
    if (broken_) return false;
    if (status.ok()) return serving_ = true;
    Refuse(status);
  }
  return false;
}

absl::Status RdmaSession::Start(const Waiting& waiting) {
  const std::byte* const bytes = receives_.data() + uint64_t{waiting.receive} * kRdmaRequestBytes;
  view_.header = {};
  absl::Status status = ParseRdmaRequest({bytes, waiting.bytes}, &view_);
  if (!status.ok()) {
    // Whose answer it would be is not known.
    if (view_.header.magic != kRdmaRequestMagic) Break(status);
    return status;
  }
  if (draining_.load()) {
    served_.metrics->Rejected(Rejection::kDraining);
    return absl::UnavailableError("engramd is stopping: attach to another replica");
  }
  ENGRAM_RETURN_IF_ERROR(MayBegin(served_.served.control->Read().state, served_.served.set->id()));
  status = Prepare();
  if (status.ok()) status = FindTargets();
  if (!status.ok()) lookup_.Release();
  layer_ = 0;
  row_ = 0;
  return status;
}

// The tokens are addressed here. Whatever the runs name, slices are of the layer's columns.
absl::Status RdmaSession::PrepareTokens() {
  const uint32_t layers = view_.header.layers;
  const uint32_t columns = served_.served.set->addresser().scheme().Columns();
  const bool sliced = (view_.tokens.parts & kRdmaSlices) != 0;
  const bool allows_images = (view_.tokens.parts & kRdmaUnmaskedImages) != 0;
  for (uint32_t i = 0; i < layers; ++i) {
    const uint32_t layer = wanted_layers_[i] = view_.layers[i].layer;
    if (!sliced) continue;
    absl::StatusOr<ColumnSlice> slice = ColumnSlice::Create(view_.runs[i], columns, layer);
    if (!slice.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer, ": ", slice.status().message()));
    }
    slices_[i] = *slice;
  }
  ENGRAM_RETURN_IF_ERROR(
      lookup_.PrepareSequences(served_.served.set,
                               {.layers = {wanted_layers_.data(), layers},
                                .sequence_tokens = view_.sequence_tokens,
                                .lookback = view_.tokens.lookback,
                                .windows = view_.windows,
                                .token_ids = view_.token_ids,
                                .dead = view_.dead,
                                .slices = {slices_.data(), sliced ? layers : 0},
                                .allow_unmasked_images = allows_images},
                               {.max_batch_rows = served_.max_batch_rows, .max_reply_bytes = 0}));
  served_.metrics->Addressed(view_.token_ids.size(), view_.dead);
  for (uint32_t i = 0; i < layers; ++i) {
    if (view_.layers[i].rows == lookup_.rows(i)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", wanted_layers_[i], ": ", view_.token_ids.size(), " tokens have ",
                     lookup_.rows(i), " rows, not ", view_.layers[i].rows));
  }
  return absl::OkStatus();
}

// By row ids or by token ids.
absl::Status RdmaSession::Prepare() {
  const uint32_t layers = view_.header.layers;
  if (view_.header.id_bytes == kRdmaTokenIds) return PrepareTokens();
  wanted_.clear();
  for (uint32_t i = 0; i < layers; ++i) {
    WantedRows rows{.layer = view_.layers[i].layer};
    if (view_.header.id_bytes == 4) {
      rows.ids32 = view_.Ids32(i);
    } else {
      rows.ids64 = view_.Ids64(i);
    }
    wanted_.push_back(rows);
  }
  return lookup_.PrepareRows(served_.served.set, wanted_,
                             {.max_batch_rows = served_.max_batch_rows, .max_reply_bytes = 0});
}

// Every byte that will be written is within a window that this client declared.
absl::Status RdmaSession::FindTargets() {
  std::array<RdmaPlace, kRdmaRequestLayers> places;
  const MutexLock lock(mutex_);
  for (uint32_t i = 0; i < view_.header.layers; ++i) {
    const RdmaRequestLayer& layer = view_.layers[i];
    places[i] = {.window = layer.window,
                 .offset = layer.offset,
                 .rows = layer.rows,
                 .row_bytes = lookup_.row_bytes(i),
                 .shape = {layer.group_rows, layer.group_stride_bytes}};
    const auto window =
        std::find_if(windows_.begin(), windows_.end(),
                     [&](const RdmaClientWindow& one) { return one.number == layer.window; });
    if (window == windows_.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer.layer, ": this client has declared no window ", layer.window,
                       ": register the landing buffer first"));
    }
    const absl::StatusOr<uint64_t> extent = RdmaExtent(places[i]);
    if (!extent.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer.layer, ": ", extent.status().message()));
    }
    if (layer.offset > window->bytes || *extent > window->bytes - layer.offset) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layer ", layer.layer, ": its ", *extent, " bytes from offset ", layer.offset,
          " on do not fit window ", layer.window, " of ", window->bytes, " bytes"));
    }
    targets_[i] = {places[i], window->address + layer.offset, window->key};
  }
  tile_ = RdmaTile({places.data(), view_.header.layers});
  return absl::OkStatus();
}

// Looked at before each slab.
absl::Status RdmaSession::MayGoOn() const {
  ENGRAM_RETURN_IF_ERROR(MayFinish(served_.served.control->Read().state, served_.served.set->id()));
  // The client's number may be any; beyond 12 days it is none.
  constexpr uint64_t kLongestTimeoutUs = uint64_t{1} << 40;
  const uint64_t timeout_us = view_.header.timeout_us;
  if (timeout_us != 0 && timeout_us < kLongestTimeoutUs &&
      clock_.Now() - current_.since > absl::Microseconds(timeout_us)) {
    return absl::DeadlineExceededError("the deadline passed before the batch was answered");
  }
  return absl::OkStatus();
}

// Gathers up to a slab of one request after the other, and posts its writes at once. False when
// there is nothing to do, or no room yet.
bool RdmaSession::Turn() {
  uint64_t left = kRdmaSlabBytes;
  bool worked = false;
  while (serving_ || StartNext()) {
    if (broken_) return true;
    if (kRdmaOwnerSendQueue - writes_out_ - filled_ < kRdmaTurnWrites) break;
    if (const absl::Status status = MayGoOn(); !status.ok()) {
      Refuse(status);
      Finish();
      continue;
    }
    const uint64_t next = std::min(left, NextBytes());
    if (filled_ == writes_.size() || next == 0 || !ring_.Has(next)) break;
    const MonotonicTime begin = clock_.Now();
    const uint64_t taken = tile_ >= 0 ? FillTile(left) : FillRows(left);
    if (taken == 0) break;
    RecordSince(Stage::kGather, begin);
    worked = true;
    left -= taken;
    if (!AllGathered()) continue;
    // Before its last write, so that the credit that goes back with it is one.
    if (absl::Status status = PostReceive(current_.receive); !status.ok()) Break(status);
    CountAnswer();
    lookup_.Release();
    serving_ = false;
  }
  if (!broken_) Post();
  return worked;
}

bool RdmaSession::AllGathered() const {
  if (tile_ < 0) return layer_ == lookup_.layers();
  return row_ == targets_[0].place.rows / targets_[0].place.shape.group_rows;
}

// Of the run that is gathered next, as far as it is known to be of use at once.
uint64_t RdmaSession::NextBytes() const {
  const RdmaPlace& place = targets_[tile_ >= 0 ? 0 : layer_].place;
  const LandingShape& shape = place.shape;
  const uint64_t left = tile_ >= 0
                            ? (place.rows / shape.group_rows - row_) * shape.group_stride_bytes
                            : (place.rows - row_) * place.row_bytes;
  return std::min<uint64_t>(kRdmaSlabBytes, left);
}

// Whole groups of all layers, as they lie at the client: one write.
uint64_t RdmaSession::FillTile(uint64_t room) {
  const uint64_t stride = targets_[0].place.shape.group_stride_bytes;
  const uint64_t all = targets_[0].place.rows / targets_[0].place.shape.group_rows;
  const uint64_t groups = std::min(all - row_, room / stride);
  if (groups == 0) return 0;
  const uint64_t bytes = groups * stride;
  const uint64_t offset = ring_.Take(bytes);
  const Target& first = targets_[tile_];
  for (size_t i = 0; i < lookup_.layers(); ++i) {
    const RdmaPlace& place = targets_[i].place;
    const uint64_t group_rows = place.shape.group_rows;
    lookup_.Gather(i, row_ * group_rows, groups * group_rows, *served_.team,
                   Landing{.data = rows_.data() + offset + (place.offset - first.place.offset),
                           .group_rows = group_rows,
                           .group_stride_bytes = stride});
  }
  AddWrite(offset, bytes, first, row_ * stride);
  row_ += groups;
  if (AllGathered()) MarkLanded(kRdmaAllLayers);
  return bytes;
}

// Rows of one layer: a write for each run that lies together at the client.
uint64_t RdmaSession::FillRows(uint64_t room) {
  const Target& target = targets_[layer_];
  const RdmaPlace& place = target.place;
  uint64_t rows = std::min(place.rows - row_, room / place.row_bytes);
  const uint64_t runs = writes_.size() - filled_;
  if (!place.IsOneRun()) {
    // The first run may begin within a group.
    rows = std::min(rows, (runs - 1) * place.shape.group_rows + place.shape.RunRows(row_));
  }
  if (rows == 0) return 0;
  uint64_t offset = ring_.Take(rows * place.row_bytes);
  lookup_.Gather(layer_, row_, rows, *served_.team, rows_.data() + offset);
  place.shape.ForEachRun(row_, row_ + rows, place.row_bytes,
                         [&](uint64_t at, uint64_t /*first*/, uint64_t run) {
                           AddWrite(offset, run * place.row_bytes, target, at);
                           offset += run * place.row_bytes;
                         });
  row_ += rows;
  if (row_ == place.rows) {
    MarkLanded(static_cast<uint8_t>(layer_));
    ++layer_;
    row_ = 0;
  }
  return rows * place.row_bytes;
}

void RdmaSession::AddWrite(uint64_t ring_offset, uint64_t bytes, const Target& target,
                           uint64_t at) {
  pieces_[filled_] = {reinterpret_cast<uintptr_t>(rows_.data()) + ring_offset,
                      static_cast<uint32_t>(bytes), rows_.local_key()};
  ENGRAM_CHECK(filled_ < writes_.size(), "more writes than are posted at once");
  ibv_send_wr& write = writes_[filled_];
  write = {};
  write.wr_id = kSent;
  write.sg_list = &pieces_[filled_];
  write.num_sge = 1;
  write.opcode = IBV_WR_RDMA_WRITE;
  write.wr.rdma.remote_addr = target.address + at;
  write.wr.rdma.rkey = target.key;
  ++filled_;
}

void RdmaSession::MarkLanded(uint8_t layer) {
  ibv_send_wr& last = writes_[filled_ - 1];
  counts_->immediates.fetch_add(1, std::memory_order_relaxed);
  last.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  last.imm_data = htobe32(RdmaImmediate(RdmaTagOf(view_.header.tag), layer));
}

void RdmaSession::CountAnswer() const {
  served_.metrics->Answered(Path::kRdma, absl::StatusCode::kOk, lookup_.Rows(), lookup_.RowsBytes(),
                            absl::ToChronoNanoseconds(clock_.Now() - current_.since));
}

void RdmaSession::RecordSince(Stage stage, MonotonicTime since) const {
  served_.metrics->RecordLatency(stage, absl::ToChronoNanoseconds(clock_.Now() - since));
}

// Rows of the request that are on their way are void.
void RdmaSession::Refuse(const absl::Status& status) {
  served_.metrics->Answered(Path::kRdma, status.code(), 0, 0,
                            absl::ToChronoNanoseconds(clock_.Now() - current_.since));
  Post();
  if (broken_) return;
  const uint64_t offset = uint64_t{refusals_sent_++ % kRdmaCredits} * kRdmaRefusalBytes;
  counts_->refusals.fetch_add(1, std::memory_order_relaxed);
  const RdmaRefusal refusal = MakeRdmaRefusal(view_.header.tag, status);
  std::memcpy(refusals_.data() + offset, &refusal, sizeof(refusal));
  if (absl::Status posted = PostReceive(current_.receive); !posted.ok()) return Break(posted);
  pieces_[0] = {reinterpret_cast<uintptr_t>(refusals_.data()) + offset, kRdmaRefusalBytes,
                refusals_.local_key()};
  ibv_send_wr& send = writes_[0];
  send = {};
  send.wr_id = kSent;
  send.sg_list = &pieces_[0];
  send.num_sge = 1;
  send.opcode = IBV_WR_SEND;
  filled_ = 1;
  Post();
}

void RdmaSession::Finish() {
  lookup_.Release();
  serving_ = false;
}

// One doorbell and one completion for all that was filled.
void RdmaSession::Post() {
  if (filled_ == 0) return;
  for (uint32_t i = 0; i + 1 < filled_; ++i) writes_[i].next = &writes_[i + 1];
  writes_[filled_ - 1].next = nullptr;
  writes_[filled_ - 1].send_flags = IBV_SEND_SIGNALED;
  posted_[posted_head_++ % posted_.size()] = {ring_.head(), filled_, clock_.Now()};
  writes_out_ += filled_;
  counts_->writes.fetch_add(filled_, std::memory_order_relaxed);  // a refusal counts, too
  counts_->doorbells.fetch_add(1, std::memory_order_relaxed);
  filled_ = 0;
  if (absl::Status posted = pair_.PostSends(&writes_[0], "writes"); !posted.ok()) {
    Break(std::move(posted));
  }
}

}  // namespace engram
