#include "client/transport/rdma/rdma_read_transport.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/store/control_page.h"

namespace engram {

absl::StatusOr<std::unique_ptr<Transport>> RdmaReadTransport::Create(RdmaAttachment attachment) {
  std::unique_ptr<RdmaReadTransport> transport(new RdmaReadTransport(std::move(attachment)));
  absl::StatusOr<RdmaBuffer> states = RdmaBuffer::Create(
      transport->route().domain, kRdmaReadQueue * 2 * sizeof(uint64_t), IBV_ACCESS_LOCAL_WRITE);
  if (!states.ok()) return states.status();
  transport->states_ = *std::move(states);
  if (absl::Status status = transport->OnConnected(); !status.ok()) return status;
  return std::unique_ptr<Transport>(std::move(transport));
}

absl::Status RdmaReadTransport::OnConnected() {
  tables_.clear();
  const v1::RdmaConnected& connected = connection().connected();
  state_ = {connected.state().address(), connected.state().bytes(), connected.state().key()};
  if (state_.bytes < sizeof(ControlWords)) {
    return absl::InternalError("the owner names no page that its set's state is in");
  }
  for (const v1::RdmaTable& table : connected.tables()) {
    if (absl::Status status = TakeTable(table); !status.ok()) return status;
  }
  for (const LayerTableSpec& layer : table_set().manifest.layers) {
    const auto same = [&](const Table& table) { return table.layer == layer.layer; };
    if (std::any_of(tables_.begin(), tables_.end(), same)) continue;
    return absl::InternalError(absl::StrCat("the owner names no table of layer ", layer.layer));
  }
  return absl::OkStatus();
}

absl::Status RdmaReadTransport::TakeTable(const v1::RdmaTable& table) {
  Table taken{.layer = table.layer(), .pieces = {}};
  uint64_t bytes = 0;
  for (const v1::RdmaWindow& piece : table.pieces()) {
    bytes += piece.bytes();
    taken.pieces.push_back({piece.address(), piece.bytes(), piece.key()});
    const bool is_last = static_cast<int>(taken.pieces.size()) == table.pieces_size();
    if (piece.bytes() == 0 || (!is_last && piece.bytes() != taken.pieces[0].bytes)) bytes = 0;
  }
  const LayerTableSpec* const layer = table_set().manifest.FindLayer(table.layer());
  if (layer == nullptr || bytes < layer->rows * layer->row_bytes ||
      taken.pieces[0].bytes < layer->row_bytes) {
    return absl::InternalError(
        absl::StrCat("the owner's table of layer ", table.layer(), " is not the manifest's"));
  }
  tables_.push_back(std::move(taken));
  return absl::OkStatus();
}

void RdmaReadTransport::SendRequests() {
  while (reads_out_ + kChain <= kRdmaReadQueue) {
    std::shared_ptr<RdmaBatch> batch = NextToSend();
    if (batch == nullptr) return;
    if (batch->NoneWritten()) {
      // Those with reads posted are fewer than these.
      batch->state_slot = static_cast<uint32_t>(started_++ % kRdmaReadQueue);
      AddState(2 * batch->state_slot);
    }
    while (filled_ + 3 <= kChain && !batch->AllWritten()) AddRow(batch->NextRead());
    const bool last = batch->AllWritten();
    if (last) AddState(2 * batch->state_slot + 1);
    ++batch->requests_out;
    PostChain({std::move(batch), 0, last});
  }
}

void RdmaReadTransport::AddRow(const RdmaBatch::Read& read) {
  const auto table = std::find_if(tables_.begin(), tables_.end(),
                                  [&](const Table& one) { return one.layer == read.layer; });
  const uint64_t piece_bytes = table->pieces[0].bytes;
  const uint64_t at = read.row * read.row_bytes;
  const Piece& piece = table->pieces[at / piece_bytes];
  const uint64_t offset = at % piece_bytes;
  const auto bytes =
      static_cast<uint32_t>(std::min<uint64_t>(read.row_bytes, piece.bytes - offset));
  Add(read.to, read.local_key, bytes, piece.address + offset, piece.key);
  if (bytes == read.row_bytes) return;
  const Piece& next = table->pieces[at / piece_bytes + 1];
  Add(read.to + bytes, read.local_key, read.row_bytes - bytes, next.address, next.key);
}

void RdmaReadTransport::AddState(uint32_t word) {
  Add(states_.data() + word * sizeof(uint64_t), states_.local_key(), sizeof(uint64_t),
      state_.address + offsetof(ControlWords, state_and_epoch), state_.key);
}

void RdmaReadTransport::Add(std::byte* to, uint32_t local_key, uint32_t bytes, uint64_t from,
                            uint32_t key) {
  places_[filled_] = {reinterpret_cast<uintptr_t>(to), bytes, local_key};
  ibv_send_wr& read = reads_[filled_];
  read = {};
  read.sg_list = &places_[filled_];
  read.num_sge = 1;
  read.opcode = IBV_WR_RDMA_READ;
  read.wr.rdma.remote_addr = from;
  read.wr.rdma.rkey = key;
  ++filled_;
}

void RdmaReadTransport::PostChain(Posted posted) {
  for (uint32_t i = 0; i + 1 < filled_; ++i) reads_[i].next = &reads_[i + 1];
  reads_[filled_ - 1].send_flags = IBV_SEND_SIGNALED;
  posted.reads = filled_;
  posted_[posted_head_++ % posted_.size()] = std::move(posted);
  reads_out_ += filled_;
  connection().counts().sends += filled_;
  ++connection().counts().doorbells;
  filled_ = 0;
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(connection().pair(), reads_.data(), &bad);
  if (error != 0) {
    Suspect(absl::InternalError(absl::StrCat("cannot post reads: ", strerrordesc_np(error))));
  }
}

void RdmaReadTransport::TakeSuccess(const ibv_wc&) {
  const Posted posted = std::move(posted_[posted_tail_++ % posted_.size()]);
  reads_out_ -= posted.reads;
  --posted.batch->requests_out;
  if (posted.last && posted.batch->state == TicketState::kInFlight) Finish(*posted.batch);
}

// The rows count when the set was served before they were read, and was not fenced after.
void RdmaReadTransport::Finish(RdmaBatch& batch) const {
  uint64_t words[2];
  std::memcpy(words, states_.data() + 2 * batch.state_slot * sizeof(uint64_t), sizeof(words));
  const std::string& id = table_set().manifest.id;
  absl::Status status = MayBegin(static_cast<SetState>(words[0] & 0xff), id);
  if (status.ok()) status = MayFinish(static_cast<SetState>(words[1] & 0xff), id);
  if (!status.ok()) {
    batch.state = TicketState::kFailedLent;
    batch.status = std::move(status);
    return;
  }
  batch.LandAll();
  batch.state = TicketState::kLanded;
}

void RdmaReadTransport::ForgetRequests() {
  while (posted_tail_ != posted_head_) {
    Interrupted(std::move(posted_[posted_tail_++ % posted_.size()].batch));
  }
  reads_out_ = 0;
}

}  // namespace engram
