#include "client/transport/grpc_batch.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

void SetRowIds(absl::Span<const RowId> ids, uint64_t table_rows, v1::LayerRowIds* out) {
  if (table_rows <= uint64_t{1} << 32) {
    auto* narrow = out->mutable_row_ids32();
    narrow->Resize(static_cast<int>(ids.size()), 0);
    std::transform(ids.begin(), ids.end(), narrow->mutable_data(),
                   [](RowId id) { return static_cast<uint32_t>(id); });
  } else {
    out->mutable_row_ids64()->Add(ids.begin(), ids.end());
  }
}

// Rows [first, first + rows) of the layer, to where the landing says they go.
void CopyToLanding(const std::string& bytes, const GrpcBatch::Piece& piece) {
  const char* from = bytes.data();
  const Landing& landing = piece.landing;
  uint64_t row = piece.first;
  const uint64_t end = piece.first + piece.rows;
  while (row < end) {
    const uint64_t in_group = landing.group_rows > 0 ? row % landing.group_rows : row;
    const uint64_t group = landing.group_rows > 0 ? row / landing.group_rows : 0;
    const uint64_t run =
        landing.group_rows > 0 ? std::min(end - row, landing.group_rows - in_group) : end - row;
    std::memcpy(landing.data + group * landing.group_stride_bytes + in_group * piece.row_bytes,
                from, run * piece.row_bytes);
    from += run * piece.row_bytes;
    row += run;
  }
}

absl::Status FromGrpc(const grpc::Status& status, const std::string& address) {
  // Asked for by nobody here: a server that stops drops calls that reach it too late.
  if (status.error_code() == grpc::StatusCode::CANCELLED) {
    return absl::UnavailableError(
        absl::StrCat("engramd at ", address, " dropped the call: it is stopping"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat("engramd at ", address, ": ", status.error_message()));
}

}  // namespace

GrpcBatch::GrpcBatch(const GrpcChannel& channel, const BatchRequest& batch)
    : channel_(channel), deadline_(batch.deadline) {
  for (const LayerRequest& request : batch.layers) AddPieces(request);
}

GrpcBatch::Call* GrpcBatch::CallWithRoom(uint32_t row_bytes) {
  if (waiting_.empty() || waiting_.back()->rows_bytes + row_bytes > channel_.max_reply_bytes) {
    auto call = std::make_unique<Call>();
    call->request.set_table_set_id(channel_.table_set_id);
    call->request.set_batch_id(waiting_.size());
    if (deadline_ != absl::InfiniteFuture()) {
      call->context.set_deadline(absl::ToChronoTime(deadline_));
    }
    waiting_.push_back(std::move(call));
  }
  return waiting_.back().get();
}

void GrpcBatch::AddPieces(const LayerRequest& request) {
  const LayerTableSpec* layer = channel_.manifest->FindLayer(request.layer);
  for (uint64_t first = 0; first < request.row_ids.size();) {
    Call* call = CallWithRoom(layer->row_bytes);
    const uint64_t room = (channel_.max_reply_bytes - call->rows_bytes) / layer->row_bytes;
    const uint64_t rows = std::min<uint64_t>(request.row_ids.size() - first, room);
    call->pieces.push_back({.layer = request.layer,
                            .row_bytes = layer->row_bytes,
                            .first = first,
                            .rows = rows,
                            .landing = request.landing});
    call->rows_bytes += rows * layer->row_bytes;
    v1::LayerRowIds* ids = call->request.add_layers();
    ids->set_layer(request.layer);
    SetRowIds(request.row_ids.subspan(first, rows), layer->rows, ids);
    first += rows;
  }
}

void GrpcBatch::Start() {
  std::lock_guard<std::mutex> lock(mutex_);
  StartCalls();
}

void GrpcBatch::StartCalls() {
  while (!waiting_.empty() && under_way_.size() < kCallsUnderWayPerBatch) {
    Call* call = waiting_.front().release();  // the completion thread deletes it
    waiting_.pop_front();
    call->batch = shared_from_this();
    under_way_.push_back(call);
    call->reader = channel_.stub->AsyncLookup(&call->context, call->request, channel_.queue);
    call->reader->Finish(&call->response, &call->status, call);
  }
}

TicketState GrpcBatch::Poll() {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

absl::Status GrpcBatch::Wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto done = [this] { return state_ != TicketState::kInFlight; };
  if (deadline_ == absl::InfiniteFuture()) {
    changed_.wait(lock, done);
  } else if (!changed_.wait_until(lock, absl::ToChronoTime(deadline_), done)) {
    FailLocked(absl::DeadlineExceededError(
        absl::StrCat("engramd at ", channel_.address, " did not answer by the batch's deadline")));
  }
  return status_;
}

void GrpcBatch::Fail(absl::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  FailLocked(std::move(status));
}

void GrpcBatch::FailLocked(absl::Status status) {
  if (state_ != TicketState::kInFlight) return;
  state_ = TicketState::kFailedLent;
  status_ = std::move(status);
  waiting_.clear();
  for (Call* call : under_way_) call->context.TryCancel();
  changed_.notify_all();
}

absl::Status GrpcBatch::Land(const Call& call) const {
  const v1::LookupResponse& reply = call.response;
  const auto wrong = [&](const std::string& what) {
    return absl::InternalError(absl::StrCat("engramd at ", channel_.address,
                                            " answered something else than was asked for: ", what));
  };
  if (reply.table_set_id() != channel_.table_set_id) {
    return wrong(absl::StrCat("rows of table set ", reply.table_set_id()));
  }
  if (reply.batch_id() != call.request.batch_id()) return wrong("another batch");
  if (static_cast<size_t>(reply.layers_size()) != call.pieces.size()) {
    return wrong("another number of layers");
  }
  for (size_t i = 0; i < call.pieces.size(); ++i) {
    const Piece& piece = call.pieces[i];
    const v1::LayerRowData& layer = reply.layers(static_cast<int>(i));
    if (layer.layer() != piece.layer) return wrong(absl::StrCat("layer ", layer.layer()));
    if (layer.rows().size() != piece.rows * piece.row_bytes) {
      return wrong(absl::StrCat(layer.rows().size(), " bytes for ", piece.rows, " rows of layer ",
                                piece.layer));
    }
  }
  for (size_t i = 0; i < call.pieces.size(); ++i) {
    CopyToLanding(reply.layers(static_cast<int>(i)).rows(), call.pieces[i]);
  }
  return absl::OkStatus();
}

void GrpcBatch::OnCallDone(Call* call) {
  std::lock_guard<std::mutex> lock(mutex_);
  under_way_.erase(std::find(under_way_.begin(), under_way_.end(), call));
  if (state_ != TicketState::kInFlight) return;
  absl::Status status = call->status.ok() ? Land(*call) : FromGrpc(call->status, channel_.address);
  if (!status.ok()) {
    FailLocked(std::move(status));
    return;
  }
  StartCalls();
  if (under_way_.empty()) {
    state_ = TicketState::kLanded;
    changed_.notify_all();
  }
}

}  // namespace engram
