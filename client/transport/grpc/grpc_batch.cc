#include "client/transport/grpc/grpc_batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Beside ids a request holds its set's id, a few numbers and, for each layer, a short head.
constexpr uint64_t kRequestFramingBytes = 256;
constexpr uint64_t kLayerFramingBytes = 32;

std::byte* PlaceOf(const Landing& landing, uint64_t place, uint32_t row_bytes) {
  if (landing.group_rows == 0) return landing.data + place * row_bytes;
  return landing.data + place / landing.group_rows * landing.group_stride_bytes +
         place % landing.group_rows * row_bytes;
}

// Bytes that lie together from `place` on.
uint64_t RunBytes(const Landing& landing, uint64_t place, uint32_t row_bytes, uint64_t bytes) {
  if (landing.group_rows == 0) return bytes;
  return std::min(bytes, (landing.group_rows - place % landing.group_rows) * row_bytes);
}

}  // namespace

std::shared_ptr<GrpcBatch> GrpcBatch::Create(const GrpcPeer& peer, const BatchRequest& batch,
                                             Planner& planner) {
  return std::shared_ptr<GrpcBatch>(new GrpcBatch(peer, batch, planner));
}

GrpcBatch::GrpcBatch(const GrpcPeer& peer, const BatchRequest& batch, Planner& planner)
    : peer_(peer), deadline_(batch.deadline) {
  for (const LayerRequest& request : batch.layers) {
    const LayerTableSpec* spec = peer.manifest->FindLayer(request.layer);
    auto layer = std::make_unique<Layer>();
    layer->layer = request.layer;
    layer->row_bytes = spec->row_bytes;
    layer->wide = spec->rows > uint64_t{1} << 32;
    layer->landing = request.landing;
    if (!planner.Distinct(request.row_ids, &layer->ids, &layer->places, &layer->copies)) {
      layer->ids.assign(request.row_ids.begin(), request.row_ids.end());
    }
    layer->left = layer->ids.size();
    layers_.push_back(std::move(layer));
  }
}

std::vector<std::shared_ptr<GrpcBatch::Part>> GrpcBatch::Cut() {
  std::vector<std::shared_ptr<Part>> parts;
  uint64_t reply_room = 0, request_room = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = *layers_[i];
    const uint64_t id_bytes = layer.wide ? 8 : 4;
    for (uint64_t first = 0; first < layer.ids.size();) {
      if (parts.empty() || reply_room < layer.row_bytes ||
          request_room < kLayerFramingBytes + id_bytes) {
        parts.push_back(std::make_shared<Part>());
        reply_room = peer_.max_reply_bytes;
        request_room = peer_.max_request_bytes - kRequestFramingBytes;
      }
      request_room -= kLayerFramingBytes;
      const uint64_t rows = std::min(
          {layer.ids.size() - first, reply_room / layer.row_bytes, request_room / id_bytes});
      parts.back()->pieces.push_back({.layer = i, .first = first, .rows = rows});
      reply_room -= rows * layer.row_bytes;
      request_room -= rows * id_bytes;
      first += rows;
    }
  }
  parts_left_ = parts.size();
  return parts;
}

wire::RequestHead GrpcBatch::HeadOf(const Part& part) const {
  return {.table_set_id = peer_.table_set_id,
          .batch_id = part.wire_id,
          .timeout_us = part.timeout_us,
          .cancel = false};
}

wire::RequestLayer GrpcBatch::LayerOf(const Piece& piece) const {
  const Layer& layer = *layers_[piece.layer];
  return {.layer = layer.layer,
          .wide = layer.wide,
          .ids = absl::MakeConstSpan(layer.ids).subspan(piece.first, piece.rows)};
}

uint64_t GrpcBatch::RequestBytes(const Part& part) const {
  uint64_t bytes = wire::RequestHeadBytes(HeadOf(part));
  for (const Piece& piece : part.pieces) bytes += wire::RequestLayerBytes(LayerOf(piece));
  return bytes;
}

void GrpcBatch::WriteRequest(const Part& part, uint8_t* out) const {
  out = wire::WriteRequestHead(HeadOf(part), out);
  for (const Piece& piece : part.pieces) out = wire::WriteRequestLayer(LayerOf(piece), out);
}

bool GrpcBatch::LayerSettled(size_t index) const {
  if (state() != TicketState::kInFlight) return true;
  return index < layers_.size() && layers_[index]->left.load(std::memory_order_acquire) == 0;
}

absl::Status GrpcBatch::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

bool GrpcBatch::Fail(absl::Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state() != TicketState::kInFlight) return false;
  status_ = std::move(status);
  state_.store(TicketState::kFailedLent, std::memory_order_release);
  return true;
}

bool GrpcBatch::MayRestart(Part& part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state() == TicketState::kInFlight && part.at == 0 && part.pieces[0].landed == 0;
}

absl::Status GrpcBatch::CheckReply(const Part& part, const wire::LookupResponse& reply,
                                   bool ended) const {
  const auto wrong = [&](const std::string& what) {
    return absl::InternalError(absl::StrCat("engramd at ", peer_.address,
                                            " answered something else than was asked for: ", what));
  };
  if (reply.table_set_id != peer_.table_set_id) {
    return wrong(absl::StrCat("rows of table set ", reply.table_set_id));
  }
  size_t at = part.at;
  uint64_t landed = at < part.pieces.size() ? part.pieces[at].landed : 0;
  for (const wire::LookupResponse::Layer& run : reply.layers) {
    if (at == part.pieces.size()) return wrong("more rows");
    const Piece& piece = part.pieces[at];
    const Layer& layer = *layers_[piece.layer];
    if (run.layer != layer.layer) return wrong(absl::StrCat("layer ", run.layer));
    const uint64_t rows = run.rows.size / layer.row_bytes;
    if (run.first_row != landed || rows == 0 || run.rows.size % layer.row_bytes != 0 ||
        rows > piece.rows - landed) {
      return wrong(absl::StrCat(run.rows.size, " bytes from row ", run.first_row, " on, for ",
                                piece.rows - landed, " rows of layer ", layer.layer, " from row ",
                                landed, " on"));
    }
    landed += rows;
    if (landed < piece.rows) continue;
    ++at;
    landed = 0;
  }
  if (ended && at < part.pieces.size()) return wrong("fewer rows");
  if (!ended && at == part.pieces.size()) return wrong("all rows, and not the end");
  return absl::OkStatus();
}

void GrpcBatch::LandRows(Layer& layer, uint64_t first, absl::Span<const wire::Bytes> chain,
                         const wire::Extent& rows) const {
  const uint32_t row_bytes = layer.row_bytes;
  uint64_t row = first;  // being written
  uint64_t written = 0;  // bytes of it and of those behind it that lie together
  const auto start = [&](uint64_t bytes_left) {
    const bool listed = !layer.places.empty();
    const uint64_t place = listed ? layer.places[row] : row;
    const uint64_t most =
        listed ? row_bytes : RunBytes(layer.landing, place, row_bytes, bytes_left);
    return absl::MakeSpan(PlaceOf(layer.landing, place, row_bytes), most);
  };
  uint64_t left = rows.size;
  absl::Span<std::byte> to = start(left);
  wire::ForEachRun(chain, rows, [&](wire::Bytes part) {
    while (!part.empty()) {
      const uint64_t step = std::min<uint64_t>(part.size(), to.size() - written);
      std::memcpy(to.data() + written, part.data(), step);
      part.remove_prefix(step);
      written += step;
      left -= step;
      if (written < to.size() || left == 0) continue;
      row += written / row_bytes;
      written = 0;
      to = start(left);
    }
  });
}

void GrpcBatch::Land(Part& part, absl::Span<const wire::Bytes> chain,
                     const wire::LookupResponse& reply, bool ended) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state() != TicketState::kInFlight) return;
  if (absl::Status status = CheckReply(part, reply, ended); !status.ok()) {
    status_ = std::move(status);
    state_.store(TicketState::kFailedLent, std::memory_order_release);
    return;
  }
  for (const wire::LookupResponse::Layer& run : reply.layers) {
    Piece& piece = part.pieces[part.at];
    Layer& layer = *layers_[piece.layer];
    LandRows(layer, piece.first + piece.landed, chain, run.rows);
    const uint64_t rows = run.rows.size / layer.row_bytes;
    piece.landed += rows;
    if (piece.landed == piece.rows) ++part.at;
    if (layer.left.load(std::memory_order_relaxed) == rows) {
      for (const RowCopy& copy : layer.copies) {
        std::memcpy(PlaceOf(layer.landing, copy.to, layer.row_bytes),
                    PlaceOf(layer.landing, copy.from, layer.row_bytes), layer.row_bytes);
      }
    }
    layer.left.fetch_sub(rows, std::memory_order_release);
  }
  if (!ended || --parts_left_ > 0) return;
  state_.store(TicketState::kLanded, std::memory_order_release);
}

}  // namespace engram
