#include "client/transport/grpc/grpc_tokens.h"

#include <algorithm>

#include "memstore/base/check.h"

namespace engram {
namespace {

// Beside tokens and layers a request holds its set's id and a few numbers.
constexpr uint64_t kFramingBytes = 256;
// A layer's number, and a slice of ColumnSlice::kMaxRuns runs of two numbers each.
constexpr uint64_t kLayerBytes = 160;
// A token: its id and its byte of the dead mask.
constexpr uint64_t kTokenBytes = 5;

// A sequence's length and its window.
uint64_t HeadBytes(uint32_t lookback) { return 5 + uint64_t{lookback} * sizeof(int32_t); }

uint64_t RoomIn(uint64_t message_bytes, size_t layers) {
  const uint64_t taken = kFramingBytes + layers * kLayerBytes;
  return message_bytes > taken ? message_bytes - taken : 0;
}

}  // namespace

uint32_t GrpcTokens::MaxSequenceTokens(uint64_t message_bytes, size_t layers, uint32_t lookback) {
  const uint64_t room = RoomIn(message_bytes, layers);
  const uint64_t head = HeadBytes(lookback);
  if (room <= head) return 0;
  return static_cast<uint32_t>(std::min<uint64_t>(kMostTokens, (room - head) / kTokenBytes));
}

void GrpcTokens::Clear() {
  sequence_tokens_.clear();
  windows_.clear();
  token_ids_.clear();
  dead_.clear();
  layers_.clear();
  runs_.clear();
  runs_of_layer_.clear();
}

void GrpcTokens::Fill(const BatchRequest& request, const AddressScheme& scheme) {
  Clear();
  const TokenBatch& tokens = *request.tokens;
  lookback_ = scheme.Lookback();
  allow_unmasked_images_ = tokens.allow_unmasked_images;
  token_ids_.assign(tokens.token_ids.begin(), tokens.token_ids.end());
  dead_.assign(tokens.dead.begin(), tokens.dead.end());
  for (const SequenceTokens& sequence : tokens.sequences) {
    sequence_tokens_.push_back(sequence.tokens);
    for (uint32_t i = 0; i < lookback_; ++i) {
      const int64_t id = sequence.state.ids[i];
      windows_.push_back(id == SequenceState::kBlocked ? -1 : static_cast<int32_t>(id));
    }
  }
  for (size_t i = 0; i < request.layers.size(); ++i) {
    if (AsksForNoRows(request, i)) continue;
    layers_.push_back(request.layers[i].layer);
    if (tokens.slices.empty()) continue;
    for (const ColumnRun& run : tokens.slices[i].runs()) {
      runs_.push_back({.first_column = run.first_column, .columns = run.columns});
    }
    runs_of_layer_.push_back(static_cast<uint32_t>(tokens.slices[i].runs().size()));
  }
}

GrpcTokens::Part GrpcTokens::Next(const Part& before, uint64_t message_bytes) const {
  Part part = {.first_sequence = before.first_sequence + before.sequences,
               .first_token = before.first_token + before.tokens};
  const uint64_t room = RoomIn(message_bytes, layers_.size());
  uint64_t bytes = 0;
  while (part.first_sequence + part.sequences < sequence_tokens_.size()) {
    const uint64_t tokens = sequence_tokens_[part.first_sequence + part.sequences];
    bytes += HeadBytes(lookback_) + tokens * kTokenBytes;
    if (bytes > room) break;
    ++part.sequences;
    part.tokens += tokens;
  }
  ENGRAM_CHECK(part.tokens > 0 || part.first_sequence == sequence_tokens_.size(),
               "a sequence is longer than a message");
  return part;
}

wire::RequestTokens GrpcTokens::On(const Part& part) const {
  const auto of_tokens = [&](const auto& list) {
    return list.empty() ? absl::MakeConstSpan(list)
                        : absl::MakeConstSpan(list).subspan(part.first_token, part.tokens);
  };
  return {.layers = layers_,
          .token_ids = of_tokens(token_ids_),
          .dead_mask = of_tokens(dead_),
          .sequence_tokens =
              absl::MakeConstSpan(sequence_tokens_).subspan(part.first_sequence, part.sequences),
          .sequence_windows = absl::MakeConstSpan(windows_).subspan(
              part.first_sequence * lookback_, part.sequences * uint64_t{lookback_}),
          .runs = runs_,
          .runs_of_layer = runs_of_layer_};
}

uint64_t GrpcTokens::KeptBytes() const {
  return token_ids_.capacity() * sizeof(int32_t) + windows_.capacity() * sizeof(int32_t) +
         sequence_tokens_.capacity() * sizeof(uint32_t) + dead_.capacity();
}

}  // namespace engram
