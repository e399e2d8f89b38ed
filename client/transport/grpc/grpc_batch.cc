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
// Of a batch that is kept to be used again: a prefill's of thousands of tokens, some MiB of ids.
constexpr uint64_t kMaxKeptBytes = 4 << 20;

// Rows of a reply where gRPC put them, taken from the front.
class RowBytes {
 public:
  RowBytes(absl::Span<const wire::Bytes> chain, const wire::Extent& rows)
      : chain_(chain), chunk_(rows.chunk), offset_(rows.offset) {}

  // The next of them, which are there.
  void CopyTo(std::byte* out, uint64_t bytes) {
    while (bytes > 0) {
      const wire::Bytes& chunk = chain_[chunk_];
      const uint64_t step = std::min<uint64_t>(bytes, chunk.size() - offset_);
      if (step > 0) std::memcpy(out, chunk.data() + offset_, step);  // a chunk of none has no place
      out += step;
      bytes -= step;
      offset_ += step;
      if (offset_ < chunk.size()) continue;
      ++chunk_;
      offset_ = 0;
    }
  }

 private:
  const absl::Span<const wire::Bytes> chain_;
  size_t chunk_;
  size_t offset_;
};

}  // namespace

void GrpcBatch::Fill(const GrpcPeer& peer, const BatchRequest& request,
                     RowDeduplicator& deduplicator, MonotonicTime now) {
  peer_ = &peer;
  begin_ = now;
  gate_ = request.gate;
  gate_tag_ = request.gate_tag;
  layer_count_ = request.layers.size();
  if (layers_.size() < layer_count_) layers_.resize(layer_count_);
  tokens_.Clear();
  if (request.tokens != nullptr) return FillTokens(request);
  for (size_t i = 0; i < layer_count_; ++i) {
    const LayerRequest& layer = request.layers[i];
    FillLayer(*peer.manifest->FindLayer(layer.layer), layer, deduplicator, &layers_[i]);
  }
}

void GrpcBatch::FillLayer(const LayerTableSpec& spec, const LayerRequest& request,
                          RowDeduplicator& deduplicator, Layer* layer) {
  layer->layer = request.layer;
  layer->row_bytes = spec.row_bytes;
  layer->wide = spec.rows > uint64_t{1} << 32;
  layer->landing = request.landing;
  // The caller's list is not lent.
  const absl::Span<const uint32_t> listed = request.landing.places;
  if (request.row_ids.size() >= RowDeduplicator::kMinRows &&
      deduplicator.Distinct(request.row_ids, &layer->ids, &layer->places, &layer->copies)) {
    if (!listed.empty()) {
      for (uint32_t& place : layer->places) place = listed[place];
      for (RowCopy& copy : layer->copies) copy = {listed[copy.from], listed[copy.to]};
    }
  } else {
    layer->ids.assign(request.row_ids.begin(), request.row_ids.end());
    layer->places.assign(listed.begin(), listed.end());
    layer->copies.clear();
  }
  layer->landing.places = layer->places;
  layer->left = layer->ids.size();
}

void GrpcBatch::FillTokens(const BatchRequest& request) {
  const AddressScheme& scheme = peer_->manifest->scheme;
  tokens_.Fill(request, scheme);
  for (size_t i = 0; i < layer_count_; ++i) {
    const LayerRequest& asked = request.layers[i];
    Layer& layer = layers_[i];
    layer.layer = asked.layer;
    layer.row_bytes = peer_->manifest->FindLayer(asked.layer)->row_bytes;
    layer.columns =
        request.tokens->slices.empty() ? scheme.Columns() : request.tokens->slices[i].columns();
    layer.ids.clear();
    layer.copies.clear();
    layer.places.assign(asked.landing.places.begin(), asked.landing.places.end());
    layer.landing = asked.landing;
    layer.landing.places = layer.places;
    layer.left = tokens_.tokens() * layer.columns;
  }
}

bool GrpcBatch::MayBeKept() const {
  uint64_t bytes = tokens_.KeptBytes();
  for (const Layer& layer : layers_) {
    bytes += layer.ids.capacity() * sizeof(RowId) + layer.places.capacity() * sizeof(uint32_t);
  }
  return bytes <= kMaxKeptBytes;
}

std::vector<std::shared_ptr<GrpcBatch::Request>> GrpcBatch::CutTokens() {
  std::vector<std::shared_ptr<Request>> requests;
  GrpcTokens::Part part;
  while ((part = tokens_.Next(part, peer_->max_request_bytes)).tokens > 0) {
    Request& request = *requests.emplace_back(std::make_shared<Request>());
    request.batch = TicketRef<GrpcBatch>(this);
    request.tokens = part;
    for (size_t i = 0; i < layer_count_; ++i) {
      const uint64_t columns = layers_[i].columns;
      if (columns == 0) continue;
      request.runs.push_back(
          {.layer = i, .first = part.first_token * columns, .rows = part.tokens * columns});
    }
  }
  return requests;
}

std::vector<std::shared_ptr<GrpcBatch::Request>> GrpcBatch::Cut() {
  if (!tokens_.empty()) return CutTokens();
  std::vector<std::shared_ptr<Request>> requests;
  uint64_t reply_room = 0, request_room = 0;
  for (size_t i = 0; i < layer_count_; ++i) {
    const Layer& layer = layers_[i];
    const uint64_t id_bytes = layer.wide ? 8 : 4;
    for (uint64_t first = 0; first < layer.ids.size();) {
      if (requests.empty() || reply_room < layer.row_bytes ||
          request_room < kLayerFramingBytes + id_bytes) {
        requests.push_back(std::make_shared<Request>());
        requests.back()->batch = TicketRef<GrpcBatch>(this);
        reply_room = peer_->max_reply_bytes;
        request_room = peer_->max_request_bytes - kRequestFramingBytes;
      }
      request_room -= kLayerFramingBytes;
      const uint64_t rows = std::min(
          {layer.ids.size() - first, reply_room / layer.row_bytes, request_room / id_bytes});
      requests.back()->runs.push_back({.layer = i, .first = first, .rows = rows});
      reply_room -= rows * layer.row_bytes;
      request_room -= rows * id_bytes;
      first += rows;
    }
  }
  return requests;
}

wire::RequestHead GrpcBatch::HeadOf(const Request& request) const {
  return {.table_set_id = peer_->table_set_id,
          .batch_id = request.wire_id,
          .timeout_us = request.timeout_us,
          .cancel = false,
          .allow_unmasked_images = !tokens_.empty() && tokens_.allows_unmasked_images()};
}

wire::RequestLayer GrpcBatch::LayerOf(const Run& run) const {
  const Layer& layer = layers_[run.layer];
  return {.layer = layer.layer,
          .wide = layer.wide,
          .ids = absl::MakeConstSpan(layer.ids).subspan(run.first, run.rows)};
}

uint64_t GrpcBatch::RequestBytes(const Request& request) const {
  uint64_t bytes = wire::RequestHeadBytes(HeadOf(request));
  if (!tokens_.empty()) return bytes + wire::RequestTokensBytes(tokens_.On(request.tokens));
  for (const Run& run : request.runs) bytes += wire::RequestLayerBytes(LayerOf(run));
  return bytes;
}

void GrpcBatch::WriteRequest(const Request& request, uint8_t* out) const {
  out = wire::WriteRequestHead(HeadOf(request), out);
  if (!tokens_.empty()) {
    wire::WriteRequestTokens(tokens_.On(request.tokens), out);
    return;
  }
  for (const Run& run : request.runs) out = wire::WriteRequestLayer(LayerOf(run), out);
}

absl::Status GrpcBatch::CheckReply(const Request& request, const wire::LookupResponse& reply,
                                   bool ended) const {
  const auto wrong = [&](const std::string& what) {
    return absl::InternalError(absl::StrCat("engramd at ", peer_->address,
                                            " answered something else than was asked for: ", what));
  };
  if (reply.table_set_id != peer_->table_set_id) {
    return wrong(absl::StrCat("rows of table set ", reply.table_set_id));
  }
  size_t at = request.at;
  uint64_t landed = at < request.runs.size() ? request.runs[at].landed : 0;
  for (const wire::LookupResponse::Layer& part : reply.layers) {
    if (at == request.runs.size()) return wrong("more rows");
    const Run& run = request.runs[at];
    const Layer& layer = layers_[run.layer];
    if (part.layer != layer.layer) return wrong(absl::StrCat("layer ", part.layer));
    const uint64_t rows = part.rows.size / layer.row_bytes;
    if (part.first_row != landed || rows == 0 || part.rows.size % layer.row_bytes != 0 ||
        rows > run.rows - landed) {
      return wrong(absl::StrCat(part.rows.size, " bytes from row ", part.first_row, " on, for ",
                                run.rows - landed, " rows of layer ", layer.layer, " from row ",
                                landed, " on"));
    }
    landed += rows;
    if (landed < run.rows) continue;
    ++at;
    landed = 0;
  }
  if (ended && at < request.runs.size()) return wrong("fewer rows");
  if (!ended && at == request.runs.size()) return wrong("all rows, and not the end");
  return absl::OkStatus();
}

void GrpcBatch::LandRepeats(const Layer& layer) {
  const LandingShape shape = layer.landing.shape();
  for (const RowCopy& copy : layer.copies) {
    std::memcpy(layer.landing.data + shape.OffsetOf(copy.to, layer.row_bytes),
                layer.landing.data + shape.OffsetOf(copy.from, layer.row_bytes), layer.row_bytes);
  }
}

void GrpcBatch::LandRows(Request& request, absl::Span<const wire::Bytes> chain,
                         const wire::LookupResponse& reply, std::vector<size_t>* landed_layers) {
  for (const wire::LookupResponse::Layer& part : reply.layers) {
    Run& run = request.runs[request.at];
    Layer& layer = layers_[run.layer];
    const uint64_t rows = part.rows.size / layer.row_bytes;
    const uint64_t first = run.first + run.landed;
    RowBytes bytes(chain, part.rows);
    layer.landing.ForEachRun(first, first + rows, layer.row_bytes,
                             [&](std::byte* place, uint64_t, uint64_t count) {
                               bytes.CopyTo(place, count * layer.row_bytes);
                             });
    run.landed += rows;
    if (run.landed == run.rows) ++request.at;
    layer.left -= rows;
    if (layer.left > 0) continue;
    LandRepeats(layer);
    landed_layers->push_back(run.layer);
  }
}

}  // namespace engram
