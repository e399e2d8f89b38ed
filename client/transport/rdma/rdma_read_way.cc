#include "client/transport/rdma/rdma_read_way.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/store/control_page.h"

namespace engram {

absl::StatusOr<std::unique_ptr<RdmaReadWay>> RdmaReadWay::Create(
    std::shared_ptr<RdmaConnection> connection, const std::shared_ptr<RdmaDomain>& domain,
    const Manifest& manifest) {
  std::unique_ptr<RdmaReadWay> way(new RdmaReadWay(std::move(connection), manifest.id));
  ENGRAM_ASSIGN_OR_RETURN(
      way->states_,
      RdmaBuffer::Create(domain, kRdmaReadQueue * 2 * sizeof(uint64_t), IBV_ACCESS_LOCAL_WRITE));
  ENGRAM_RETURN_IF_ERROR(way->TakeTables(manifest));
  return way;
}

absl::Status RdmaReadWay::TakeTables(const Manifest& manifest) {
  const v1::RdmaConnected& connected = connection_->connected();
  if (connected.state().bytes() < sizeof(ControlWords)) {
    return absl::InternalError("the owner names no page that its set's state is in");
  }
  state_ = {connected.state().address() + offsetof(ControlWords, state_and_epoch), sizeof(uint64_t),
            connected.state().key()};
  std::vector<RdmaRemoteSet::Range> ranges;
  for (const v1::RdmaTable& table : connected.tables()) {
    RdmaRemoteSet::Range& range = ranges.emplace_back();
    range.layer = table.layer();
    range.rows = {.first = table.first_row(), .rows = table.rows()};
    const LayerTableSpec* const layer = manifest.FindLayer(table.layer());
    // An owner that does not say how many rows it has holds all that follow the first.
    if (range.rows.rows == 0 && layer != nullptr) {
      range.rows.rows = layer->rows - std::min(layer->rows, table.first_row());
    }
    for (const v1::RdmaWindow& piece : table.pieces()) {
      range.regions.push_back({piece.address(), piece.bytes(), piece.key()});
    }
  }
  ENGRAM_ASSIGN_OR_RETURN(tables_, RdmaRemoteSet::Create(manifest, std::move(ranges)));
  return absl::OkStatus();
}

absl::Status RdmaReadWay::Check(const RdmaBatch& batch) const {
  return batch.CheckRows(
      [this](uint32_t layer, absl::Span<const RowId> ids) { return tables_.Check(layer, ids); });
}

absl::Status RdmaReadWay::Send(RdmaSendQueue& queue, RdmaTickets& tickets) {
  while (reads_out_ + kChain <= kRdmaReadQueue) {
    RdmaBatch* const batch = queue.Next();
    if (batch == nullptr) break;
    if (batch->NoneWritten()) {
      // Those with reads posted are fewer than these.
      batch->state_slot = static_cast<uint32_t>(started_++ % kRdmaReadQueue);
      AddState(2 * batch->state_slot);
    }
    while (filled_ + 3 <= kChain && !batch->AllWritten()) AddRow(batch->NextRead());
    const bool last = batch->AllWritten();
    if (last) AddState(2 * batch->state_slot + 1);
    tickets.OnPosted(*batch);
    ENGRAM_RETURN_IF_ERROR(PostChain({batch, 0, last}));
  }
  return absl::OkStatus();
}

void RdmaReadWay::AddRow(const RdmaBatch::Read& read) {
  std::array<RemoteRegion, 2> runs;
  const int count = tables_.Locate(read.layer, read.row, &runs);
  std::byte* to = read.to;
  for (int i = 0; i < count; ++i) {
    Add(to, read.local_key, runs[i]);
    to += runs[i].bytes;
  }
}

void RdmaReadWay::AddState(uint32_t word) {
  Add(states_.data() + word * sizeof(uint64_t), states_.local_key(), state_);
}

void RdmaReadWay::Add(std::byte* to, uint32_t local_key, const RemoteRegion& from) {
  places_[filled_] = {reinterpret_cast<uintptr_t>(to), static_cast<uint32_t>(from.bytes),
                      local_key};
  ibv_send_wr& read = reads_[filled_];
  read = {};
  read.sg_list = &places_[filled_];
  read.num_sge = 1;
  read.opcode = IBV_WR_RDMA_READ;
  read.wr.rdma.remote_addr = from.address;
  read.wr.rdma.rkey = from.key;
  ++filled_;
}

absl::Status RdmaReadWay::PostChain(Posted posted) {
  for (uint32_t i = 0; i + 1 < filled_; ++i) reads_[i].next = &reads_[i + 1];
  reads_[filled_ - 1].send_flags = IBV_SEND_SIGNALED;
  posted.reads = filled_;
  posted_[posted_head_++ % posted_.size()] = posted;
  reads_out_ += filled_;
  return connection_->PostReads(reads_.data(), std::exchange(filled_, 0));
}

absl::StatusOr<bool> RdmaReadWay::TakeCompletions(RdmaTickets& tickets) {
  return connection_->TakeCompletions([&](const ibv_wc&) {
    TakeChain(tickets);
    return absl::OkStatus();
  });
}

void RdmaReadWay::TakeChain(RdmaTickets& tickets) {
  ENGRAM_CHECK(posted_tail_ != posted_head_, "reads completed that were not posted");
  const Posted posted = posted_[posted_tail_++ % posted_.size()];
  reads_out_ -= posted.reads;
  if (posted.last && posted.batch->in_flight()) Finish(*posted.batch, tickets);
  tickets.OnAnswered(*posted.batch);
}

// The rows count when the set was served before they were read, and was not fenced after.
void RdmaReadWay::Finish(RdmaBatch& batch, RdmaTickets& tickets) const {
  uint64_t words[2];
  std::memcpy(words, states_.data() + 2 * batch.state_slot * sizeof(uint64_t), sizeof(words));
  absl::Status status = MayBegin(static_cast<TableSetState>(words[0] & 0xff), set_id_);
  if (status.ok()) status = MayFinish(static_cast<TableSetState>(words[1] & 0xff), set_id_);
  if (!status.ok()) return tickets.OnFailed(batch, std::move(status));
  for (uint32_t i = 0; i < batch.layer_count(); ++i) {
    if (batch.HasLanded(i)) continue;
    batch.Land({.place = i, .rows = batch.rows(i)});
    tickets.OnLayerLanded(batch, i);
  }
}

void RdmaReadWay::ForgetAll(std::vector<RdmaBatch*>* batches) {
  while (posted_tail_ != posted_head_) {
    batches->push_back(posted_[posted_tail_++ % posted_.size()].batch);
  }
  reads_out_ = 0;
}

}  // namespace engram
