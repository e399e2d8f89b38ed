#include "client/transport/rdma/rdma_batch.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "memstore/base/clock.h"

namespace engram {

// A request while it is written: layers are added, then ids behind all of them.
struct RdmaBatch::Writer {
  Request request;
  std::array<RdmaRequestLayer, kRdmaRequestLayers> layers;
  std::array<const RowId*, kRdmaRequestLayers> ids;
  uint64_t bytes = sizeof(RdmaRequestHeader);

  void Add(uint32_t part, const RdmaRequestLayer& layer, const RowId* first, uint32_t id_bytes) {
    request.pieces[request.layers] = {part, layer.rows};
    layers[request.layers] = layer;
    ids[request.layers] = first;
    ++request.layers;
    bytes += sizeof(RdmaRequestLayer) + RdmaIdBytes(layer.rows, id_bytes);
  }
};

absl::Status RdmaBatch::Take(const BatchRequest& request, const Manifest& manifest,
                             const RdmaWindows& windows) {
  state = TicketState::kInFlight;
  status = absl::OkStatus();
  deadline = request.deadline;
  requests_out = 0;
  parts_.clear();
  places_.clear();
  ids_.clear();
  id_bytes_ = sizeof(uint32_t);
  next_part_ = 0;
  restarted_ = false;
  by_tokens_ = request.tokens != nullptr;
  sequences_.clear();
  next_sequence_ = next_token_ = 0;
  columns_ = manifest.scheme.Columns();
  lookback_ = manifest.scheme.Lookback();
  to_land_ = 0;
  if (by_tokens_) {
    const TokenRows& tokens = *request.tokens;
    sequences_.assign(tokens.sequences.begin(), tokens.sequences.end());
    token_ids_.assign(tokens.token_ids.begin(), tokens.token_ids.end());
    dead_.assign(tokens.dead.begin(), tokens.dead.end());
  }
  for (const LayerRequest& layer : request.layers) {
    const LayerTableSpec& spec = *manifest.FindLayer(layer.layer);
    if (spec.rows > uint64_t{1} << 32) id_bytes_ = sizeof(uint64_t);
    Part part{.layer = layer.layer,
              .place = {},
              .data = layer.landing.data,
              .first_id = ids_.size(),
              .rows = by_tokens_ ? token_ids_.size() * columns_ : layer.row_ids.size()};
    part.place = {.rows = part.rows,
                  .row_bytes = spec.row_bytes,
                  .group_rows = layer.landing.group_rows,
                  .group_stride_bytes = layer.landing.group_stride_bytes};
    const absl::StatusOr<uint64_t> extent = RdmaExtent(part.place);
    absl::StatusOr<RdmaLandingPlace> landing =
        extent.ok() ? windows.Find(layer.landing.data, *extent) : extent.status();
    if (!landing.ok()) {
      if (IsUnregistered(landing.status())) return landing.status();
      return absl::Status(landing.status().code(),
                          absl::StrCat("layer ", layer.layer, ": ", landing.status().message()));
    }
    part.place.window = landing->window;
    part.place.offset = landing->offset;
    part.local_key = landing->local_key;
    // On the wire a group has 32 bits; a larger one is never full here.
    if (part.place.group_rows > std::numeric_limits<uint32_t>::max()) part.place.group_rows = 0;
    parts_.push_back(part);
    places_.push_back(part.place);
    ids_.insert(ids_.end(), layer.row_ids.begin(), layer.row_ids.end());
    to_land_ += part.rows;
  }
  is_tile_ = RdmaTile(places_) >= 0;
  return absl::OkStatus();
}

bool RdmaBatch::MayRestart() {
  if (restarted_ || state != TicketState::kInFlight || deadline <= RealClock().Now()) return false;
  restarted_ = true;
  requests_out = 0;
  next_part_ = 0;
  next_sequence_ = next_token_ = 0;
  to_land_ = 0;
  for (Part& part : parts_) {
    // Of a layer that has landed nothing is written once more: its reader may be at work in place.
    if (part.landed == part.rows) {
      part.written = part.rows;
      is_tile_ = false;
      continue;
    }
    part.written = part.landed = 0;
    to_land_ += part.rows;
  }
  SkipWritten();
  return true;
}

void RdmaBatch::WriteHead(RdmaTag tag, const Writer& writer, uint32_t id_bytes,
                          std::byte* out) const {
  RdmaRequestHeader header{.magic = kRdmaRequestMagic,
                           .version = kRdmaVersion,
                           .layers = static_cast<uint16_t>(writer.request.layers),
                           .tag = RdmaImmediate(tag, kRdmaAllLayers),
                           .id_bytes = id_bytes,
                           .batch = number,
                           .timeout_us = 0};
  const absl::Duration left = deadline - RealClock().Now();
  if (left < absl::Hours(1)) {
    header.timeout_us =
        static_cast<uint64_t>(std::max<int64_t>(1, absl::ToInt64Microseconds(left)));
  }
  std::memcpy(out, &header, sizeof(header));
  std::memcpy(out + sizeof(header), writer.layers.data(),
              writer.request.layers * sizeof(RdmaRequestLayer));
}

// As many whole sequences as fit, of every layer that has not landed.
RdmaBatch::Request RdmaBatch::WriteTokens(RdmaTag tag, std::byte* out) {
  RdmaTokens tokens{.tokens = 0,
                    .sequences = 0,
                    .lookback = lookback_,
                    .dead = dead_.empty() ? uint32_t{0} : uint32_t{1}};
  while (next_sequence_ + tokens.sequences < sequences_.size()) {
    const uint32_t next = sequences_[next_sequence_ + tokens.sequences].tokens;
    if (tokens.tokens + next > kRdmaRequestTokens) break;
    tokens.tokens += next;
    ++tokens.sequences;
  }
  const uint64_t rows = uint64_t{tokens.tokens} * columns_;
  const uint64_t first = next_token_ * columns_;
  Writer writer;
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (part.landed == part.rows) continue;
    const RdmaPlace& place = part.place;
    writer.Add(
        i,
        {.layer = part.layer,
         .window = place.window,
         .offset = place.offset + (place.group_rows == 0 ? first * place.row_bytes
                                                         : next_token_ * place.group_stride_bytes),
         .group_stride_bytes = place.group_stride_bytes,
         .group_rows = static_cast<uint32_t>(place.group_rows),
         .rows = static_cast<uint32_t>(rows)},
        nullptr, sizeof(uint32_t));
    part.written += rows;
  }
  WriteHead(tag, writer, kRdmaTokenIds, out);
  std::byte* at = out + RdmaHeadBytes(writer.request.layers);
  const auto put = [&at](const void* from, size_t bytes) {
    std::memcpy(at, from, bytes);
    at += bytes;
  };
  put(&tokens, sizeof(tokens));
  for (uint32_t i = 0; i < tokens.sequences; ++i) {
    put(&sequences_[next_sequence_ + i].tokens, sizeof(uint32_t));
  }
  for (uint32_t i = 0; i < tokens.sequences; ++i) {
    for (uint32_t j = 0; j < lookback_; ++j) {
      const int64_t id = sequences_[next_sequence_ + i].state.ids[j];
      const int32_t narrow = id == SequenceState::kBlocked ? -1 : static_cast<int32_t>(id);
      put(&narrow, sizeof(narrow));
    }
  }
  put(&token_ids_[next_token_], tokens.tokens * sizeof(int32_t));
  if (tokens.dead != 0) put(&dead_[next_token_], tokens.tokens);
  next_sequence_ += tokens.sequences;
  next_token_ += tokens.tokens;
  writer.request.bytes =
      static_cast<uint32_t>(RdmaHeadBytes(writer.request.layers) + RdmaTokenBytes(tokens));
  return writer.request;
}

RdmaBatch::Request RdmaBatch::WriteNext(RdmaTag tag, std::byte* out) {
  if (by_tokens_) return WriteTokens(tag, out);
  Writer writer;
  // Groups too large for a request travel layer by layer.
  if (!is_tile_ || AddTile(writer) == 0) AddRows(writer);
  WriteHead(tag, writer, id_bytes_, out);
  uint64_t at = RdmaHeadBytes(writer.request.layers);
  for (uint32_t i = 0; i < writer.request.layers; ++i) {
    const uint64_t rows = writer.layers[i].rows;
    if (id_bytes_ == sizeof(RowId)) {
      std::memcpy(out + at, writer.ids[i], rows * sizeof(RowId));
    } else {
      auto* const narrow = reinterpret_cast<uint32_t*>(out + at);
      for (uint64_t j = 0; j < rows; ++j) narrow[j] = static_cast<uint32_t>(writer.ids[i][j]);
    }
    at += RdmaIdBytes(rows, id_bytes_);
  }
  writer.request.bytes = static_cast<uint32_t>(at);
  return writer.request;
}

// The next groups of all layers; 0 when not even one fits.
uint64_t RdmaBatch::AddTile(Writer& writer) {
  uint64_t group_ids = 0;
  for (const Part& part : parts_) group_ids += part.place.group_rows;
  if (group_ids == 0) return 0;
  // Each layer's ids may end 4 bytes short of where the next one's begin.
  const uint64_t room = kRdmaRequestBytes - RdmaHeadBytes(parts_.size()) - 8 * parts_.size();
  const uint64_t left = (parts_[0].rows - parts_[0].written) / parts_[0].place.group_rows;
  const uint64_t groups = std::min(left, room / (group_ids * id_bytes_));
  if (groups == 0) return 0;
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    const RdmaPlace& place = part.place;
    writer.Add(i,
               {.layer = part.layer,
                .window = place.window,
                .offset = place.offset + part.written / place.group_rows * place.group_stride_bytes,
                .group_stride_bytes = place.group_stride_bytes,
                .group_rows = static_cast<uint32_t>(place.group_rows),
                .rows = static_cast<uint32_t>(groups * place.group_rows)},
               &ids_[part.first_id + part.written], id_bytes_);
    part.written += groups * place.group_rows;
  }
  if (parts_[0].written == parts_[0].rows) next_part_ = parts_.size();
  return groups;
}

// Rows of one layer after the other, as many as fit. A request that does not take all of a layer
// takes whole groups, or a run within a group that is too large.
void RdmaBatch::AddRows(Writer& writer) {
  while (next_part_ < parts_.size() && writer.request.layers < kRdmaRequestLayers) {
    Part& part = parts_[next_part_];
    const RdmaPlace& place = part.place;
    const uint64_t head = writer.bytes + sizeof(RdmaRequestLayer);
    if (head + RdmaIdBytes(1, id_bytes_) > kRdmaRequestBytes) return;
    uint64_t rows =
        std::min((kRdmaRequestBytes - head) / 8 * 8 / id_bytes_, part.rows - part.written);
    RdmaRequestLayer layer{.layer = part.layer,
                           .window = place.window,
                           .offset = place.offset + part.written * place.row_bytes,
                           .group_stride_bytes = 0,
                           .group_rows = 0,
                           .rows = 0};
    if (!place.IsOneRun()) {
      const uint64_t in_group = part.written % place.group_rows;
      layer.offset = place.offset + part.written / place.group_rows * place.group_stride_bytes +
                     in_group * place.row_bytes;
      if (in_group != 0 || rows < place.group_rows) {
        rows = std::min(rows, place.group_rows - in_group);
      } else {
        if (rows < part.rows - part.written) rows -= rows % place.group_rows;
        layer.group_rows = static_cast<uint32_t>(place.group_rows);
        layer.group_stride_bytes = place.group_stride_bytes;
      }
    }
    layer.rows = static_cast<uint32_t>(rows);
    writer.Add(static_cast<uint32_t>(next_part_), layer, &ids_[part.first_id + part.written],
               id_bytes_);
    part.written += rows;
    if (part.written < part.rows) return;
    SkipWritten();
  }
}

// Past what is written, or had landed before the batch began again.
void RdmaBatch::SkipWritten() {
  while (next_part_ < parts_.size() && parts_[next_part_].written == parts_[next_part_].rows) {
    ++next_part_;
  }
}

RdmaBatch::Read RdmaBatch::NextRead() {
  Part& part = parts_[next_part_];
  const RdmaPlace& place = part.place;
  uint64_t at = part.written * place.row_bytes;
  if (place.group_rows != 0) {
    at = part.written / place.group_rows * place.group_stride_bytes +
         part.written % place.group_rows * place.row_bytes;
  }
  const Read read{.layer = part.layer,
                  .row_bytes = place.row_bytes,
                  .row = ids_[part.first_id + part.written],
                  .to = part.data + at,
                  .local_key = part.local_key};
  if (++part.written == part.rows) SkipWritten();
  return read;
}

void RdmaBatch::LandAll() {
  for (Part& part : parts_) part.landed = part.rows;
  to_land_ = 0;
}

void RdmaBatch::Land(const Piece& piece) {
  parts_[piece.part].landed += piece.rows;
  to_land_ -= piece.rows;
}

}  // namespace engram
