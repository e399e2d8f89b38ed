#include "server/rdma/client.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Completions taken at once: more would keep another client waiting.
constexpr size_t kPollBatch = 16;
// What a completion was of: a receive has its number, anything sent counts in posted_.
constexpr uint64_t kSent = uint64_t{1} << 32;

}  // namespace

RdmaClient::RdmaClient(RdmaServed served, RdmaOwnerCounts* counts)
    : served_(std::move(served)),
      lease_(served_.served.leases, LeaseKind::kRdmaWrite),
      counts_(counts) {
  windows_.reserve(kRdmaWindows);
  counts_->clients.fetch_add(1);
}

RdmaClient::~RdmaClient() { counts_->clients.fetch_sub(1); }

absl::StatusOr<std::shared_ptr<RdmaClient>> RdmaClient::Create(std::shared_ptr<RdmaDomain> domain,
                                                               std::shared_ptr<RdmaChannel> channel,
                                                               RdmaServed served,
                                                               const RdmaPeer& peer,
                                                               RdmaOwnerCounts* counts) {
  std::shared_ptr<RdmaClient> client(new RdmaClient(std::move(served), counts));
  absl::Status status = client->Open(std::move(domain), std::move(channel), peer);
  if (!status.ok()) return status;
  return client;
}

absl::Status RdmaClient::Open(std::shared_ptr<RdmaDomain> domain,
                              std::shared_ptr<RdmaChannel> channel, const RdmaPeer& peer) {
  const auto make = [&](uint64_t bytes, int access, RdmaBuffer* buffer) -> absl::Status {
    absl::StatusOr<RdmaBuffer> made = RdmaBuffer::Create(domain, bytes, access);
    if (!made.ok()) return made.status();
    *buffer = *std::move(made);
    return absl::OkStatus();
  };
  absl::Status status =
      make(uint64_t{kRdmaCredits} * kRdmaRequestBytes, IBV_ACCESS_LOCAL_WRITE, &receives_);
  if (status.ok()) status = make(kRdmaRingBytes, 0, &rows_);
  if (status.ok()) status = make(uint64_t{kRdmaCredits} * kRdmaRefusalBytes, 0, &refusals_);
  if (!status.ok()) return status;
  absl::StatusOr<RdmaCompletions> completions = RdmaCompletions::Create(
      std::move(channel), *domain->device(), kRdmaCredits + kRdmaOwnerSendQueue);
  if (!completions.ok()) return completions.status();
  completions_ = *std::move(completions);
  // The owner's memory is nobody's to read or write: no remote access.
  absl::StatusOr<RdmaQueuePair> pair = RdmaQueuePair::Create(
      domain, completions_, {.sends = kRdmaOwnerSendQueue, .receives = kRdmaCredits}, 0);
  if (!pair.ok()) return pair.status();
  pair_ = *std::move(pair);
  for (uint16_t i = 0; i < kRdmaCredits; ++i) {
    if (status = PostReceive(i); !status.ok()) return status;
  }
  return pair_.Connect(peer);
}

absl::Status RdmaClient::PostReceive(uint16_t receive) {
  ibv_sge piece{
      reinterpret_cast<uintptr_t>(receives_.data()) + uint64_t{receive} * kRdmaRequestBytes,
      kRdmaRequestBytes, receives_.local_key()};
  ibv_recv_wr request{}, *bad = nullptr;
  request.wr_id = receive;
  request.sg_list = &piece;
  request.num_sge = 1;
  const int error = ibv_post_recv(pair_.get(), &request, &bad);
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot post a receive: ", strerrordesc_np(error)));
}

absl::Status RdmaClient::Declare(const RdmaClientWindow& window) {
  if (window.bytes == 0 || window.address + window.bytes < window.address) {
    return absl::InvalidArgumentError(
        absl::StrCat("window ", window.number, " is no memory: ", window.bytes, " bytes"));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
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

absl::Status RdmaClient::Forget(uint32_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (RdmaClientWindow& window : windows_) {
    if (window.number != number) continue;
    window = windows_.back();
    windows_.pop_back();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no window ", number, " to forget"));
}

absl::Status RdmaClient::Health() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return health_;
}

void RdmaClient::Break(absl::Status status) {
  if (broken_) return;
  broken_ = true;
  pair_.MoveToError();
  lookup_.Release();
  serving_ = false;
  idle_.store(true);
  const std::lock_guard<std::mutex> lock(mutex_);
  health_ = std::move(status);
}

bool RdmaClient::Advance() {
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

void RdmaClient::TakeCompletion(const ibv_wc& completion) {
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
    const Posted& posted = posted_[posted_tail_++ % posted_.size()];
    served_.metrics->RecordLatency(Stage::kSend, Clock::now() - posted.since);
    ring_.FreeTo(posted.ring_head);
    writes_out_ -= posted.writes;
    return;
  }
  // A receive was posted for it, so there is room.
  waiting_[waiting_head_++ % waiting_.size()] = {static_cast<uint16_t>(completion.wr_id),
                                                 completion.byte_len, Clock::now()};
}

// The next request that is not refused; false when there is none.
bool RdmaClient::StartNext() {
  // A refusal takes a place in the queue, too.
  while (waiting_head_ != waiting_tail_ && writes_out_ < kRdmaOwnerSendQueue - kRdmaTurnWrites) {
    current_ = waiting_[waiting_tail_++ % waiting_.size()];
    counts_->requests.fetch_add(1, std::memory_order_relaxed);
    served_.metrics->Began();
    const Clock::time_point begin = Clock::now();
    served_.metrics->RecordLatency(Stage::kQueue, begin - current_.since);
    const absl::Status status = Start(current_);
    served_.metrics->RecordLatency(Stage::kPlan, Clock::now() - begin);
    if (broken_) return false;
    if (status.ok()) return serving_ = true;
    Refuse(status);
  }
  return false;
}

absl::Status RdmaClient::Start(const Waiting& waiting) {
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
  if (status = MayBegin(served_.served.control->Read().state, served_.served.set->id());
      !status.ok()) {
    return status;
  }
  status = Prepare();
  if (status.ok()) status = FindTargets();
  if (!status.ok()) lookup_.Release();
  layer_ = 0;
  row_ = 0;
  return status;
}

// By row ids or by token ids.
absl::Status RdmaClient::Prepare() {
  const uint32_t layers = view_.header.layers;
  const LookupLimits limits{.max_batch_rows = served_.max_batch_rows, .max_reply_bytes = 0};
  if (view_.header.id_bytes == kRdmaTokenIds) {
    for (uint32_t i = 0; i < layers; ++i) wanted_layers_[i] = view_.layers[i].layer;
    absl::Status status = lookup_.PrepareSequences(served_.served.set,
                                                   {.layers = {wanted_layers_.data(), layers},
                                                    .sequence_tokens = view_.sequence_tokens,
                                                    .lookback = view_.tokens.lookback,
                                                    .windows = view_.windows,
                                                    .token_ids = view_.token_ids,
                                                    .dead = view_.dead},
                                                   limits);
    for (uint32_t i = 0; status.ok() && i < layers; ++i) {
      if (view_.layers[i].rows == lookup_.rows(i)) continue;
      status = absl::InvalidArgumentError(
          absl::StrCat("layer ", wanted_layers_[i], ": ", view_.token_ids.size(), " tokens have ",
                       lookup_.rows(i), " rows, not ", view_.layers[i].rows));
    }
    return status;
  }
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
  return lookup_.PrepareRows(served_.served.set, wanted_, limits);
}

// Every byte that will be written is within a window that this client declared.
absl::Status RdmaClient::FindTargets() {
  std::array<RdmaPlace, kRdmaRequestLayers> places;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (uint32_t i = 0; i < view_.header.layers; ++i) {
    const RdmaRequestLayer& layer = view_.layers[i];
    places[i] = {.window = layer.window,
                 .offset = layer.offset,
                 .rows = layer.rows,
                 .row_bytes = lookup_.row_bytes(i),
                 .group_rows = layer.group_rows,
                 .group_stride_bytes = layer.group_stride_bytes};
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
absl::Status RdmaClient::MayGoOn() const {
  absl::Status status = MayFinish(served_.served.control->Read().state, served_.served.set->id());
  if (!status.ok()) return status;
  const uint64_t timeout_us = view_.header.timeout_us;
  if (timeout_us != 0 && timeout_us < uint64_t{1} << 40 &&
      Clock::now() - current_.since > std::chrono::microseconds(timeout_us)) {
    return absl::DeadlineExceededError("the deadline passed before the batch was answered");
  }
  return absl::OkStatus();
}

// Gathers up to a slab of one request after the other, and posts its writes at once. False when
// there is nothing to do, or no room yet.
bool RdmaClient::Turn() {
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
    const Clock::time_point begin = Clock::now();
    const uint64_t taken = tile_ >= 0 ? FillTile(left) : FillRows(left);
    if (taken == 0) break;
    served_.metrics->RecordLatency(Stage::kGather, Clock::now() - begin);
    worked = true;
    left -= taken;
    const bool all = tile_ >= 0 ? row_ == targets_[0].place.rows / targets_[0].place.group_rows
                                : layer_ == lookup_.layers();
    if (!all) continue;
    // Before its last write, so that the credit that goes back with it is one.
    if (absl::Status status = PostReceive(current_.receive); !status.ok()) Break(status);
    CountAnswer();
    lookup_.Release();
    serving_ = false;
  }
  if (!broken_) Post();
  return worked;
}

// Of the run that is gathered next, as far as it is known to be of use at once.
uint64_t RdmaClient::NextBytes() const {
  const RdmaPlace& place = targets_[tile_ >= 0 ? 0 : layer_].place;
  if (tile_ >= 0) {
    return std::min<uint64_t>(kRdmaSlabBytes,
                              (place.rows / place.group_rows - row_) * place.group_stride_bytes);
  }
  return std::min<uint64_t>(kRdmaSlabBytes, (place.rows - row_) * place.row_bytes);
}

// Whole groups of all layers, as they lie at the client: one write.
uint64_t RdmaClient::FillTile(uint64_t room) {
  const uint64_t stride = targets_[0].place.group_stride_bytes;
  const uint64_t groups =
      std::min(targets_[0].place.rows / targets_[0].place.group_rows - row_, room / stride);
  if (groups == 0) return 0;
  const uint64_t bytes = groups * stride;
  const uint64_t offset = ring_.Take(bytes);
  const Target& first = targets_[tile_];
  for (size_t i = 0; i < lookup_.layers(); ++i) {
    const RdmaPlace& place = targets_[i].place;
    lookup_.Gather(i, row_ * place.group_rows, groups * place.group_rows, *served_.team,
                   Landing{.data = rows_.data() + offset + (place.offset - first.place.offset),
                           .group_rows = place.group_rows,
                           .group_stride_bytes = stride});
  }
  AddWrite(offset, bytes, first, row_ * stride);
  row_ += groups;
  if (row_ == targets_[0].place.rows / targets_[0].place.group_rows) MarkLanded(kRdmaAllLayers);
  return bytes;
}

// Rows of one layer: a write for each run that lies together at the client.
uint64_t RdmaClient::FillRows(uint64_t room) {
  const Target& target = targets_[layer_];
  const RdmaPlace& place = target.place;
  uint64_t rows = std::min(place.rows - row_, room / place.row_bytes);
  const bool one_run = place.IsOneRun();
  if (!one_run) {
    // The first run may begin within a group.
    const uint64_t runs = writes_.size() - filled_;
    rows = std::min(rows, runs * place.group_rows - row_ % place.group_rows);
  }
  if (rows == 0) return 0;
  uint64_t offset = ring_.Take(rows * place.row_bytes);
  lookup_.Gather(layer_, row_, rows, *served_.team, rows_.data() + offset);
  for (uint64_t left = rows; left > 0;) {
    const uint64_t group = one_run ? 0 : row_ / place.group_rows;
    const uint64_t in_group = one_run ? row_ : row_ % place.group_rows;
    const uint64_t run = one_run ? left : std::min(left, place.group_rows - in_group);
    AddWrite(offset, run * place.row_bytes, target,
             group * place.group_stride_bytes + in_group * place.row_bytes);
    offset += run * place.row_bytes;
    row_ += run;
    left -= run;
  }
  if (row_ == place.rows) {
    MarkLanded(static_cast<uint8_t>(layer_));
    ++layer_;
    row_ = 0;
  }
  return rows * place.row_bytes;
}

void RdmaClient::AddWrite(uint64_t ring_offset, uint64_t bytes, const Target& target, uint64_t at) {
  pieces_[filled_] = {reinterpret_cast<uintptr_t>(rows_.data()) + ring_offset,
                      static_cast<uint32_t>(bytes), rows_.local_key()};
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

void RdmaClient::MarkLanded(uint8_t layer) {
  ibv_send_wr& last = writes_[filled_ - 1];
  counts_->immediates.fetch_add(1, std::memory_order_relaxed);
  last.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  last.imm_data = htobe32(RdmaImmediate(RdmaTagOf(view_.header.tag), layer));
}

// Rows of the request that are on their way are void.
void RdmaClient::CountAnswer() const {
  uint64_t rows = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < lookup_.layers(); ++i) {
    rows += lookup_.rows(i);
    bytes += lookup_.LayerBytes(i);
  }
  served_.metrics->Answered(Path::kRdma, absl::StatusCode::kOk, rows, bytes,
                            Clock::now() - current_.since);
}

void RdmaClient::Refuse(const absl::Status& status) {
  served_.metrics->Answered(Path::kRdma, status.code(), 0, 0, Clock::now() - current_.since);
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

void RdmaClient::Finish() {
  lookup_.Release();
  serving_ = false;
}

// One doorbell and one completion for all that was filled.
void RdmaClient::Post() {
  if (filled_ == 0) return;
  for (uint32_t i = 0; i + 1 < filled_; ++i) writes_[i].next = &writes_[i + 1];
  writes_[filled_ - 1].next = nullptr;
  writes_[filled_ - 1].send_flags = IBV_SEND_SIGNALED;
  posted_[posted_head_++ % posted_.size()] = {ring_.head(), filled_, Clock::now()};
  writes_out_ += filled_;
  counts_->writes.fetch_add(filled_, std::memory_order_relaxed);  // a refusal counts, too
  counts_->doorbells.fetch_add(1, std::memory_order_relaxed);
  filled_ = 0;
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(pair_.get(), &writes_[0], &bad);
  if (error != 0) {
    Break(absl::InternalError(absl::StrCat("cannot post writes: ", strerrordesc_np(error))));
  }
}

}  // namespace engram
