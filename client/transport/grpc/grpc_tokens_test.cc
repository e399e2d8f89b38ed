#include "client/transport/grpc/grpc_tokens.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;

constexpr uint32_t kColumns = 4;

AddressScheme Scheme() {
  AddressScheme scheme;
  scheme.max_order = 3;
  scheme.heads_per_order = 2;
  return scheme;
}

LayerRequest Of(uint32_t layer) { return {.layer = layer, .row_ids = {}, .landing = {}}; }

TEST(GrpcTokensTest, SequencesTravelWholeBehindTheirWindows) {
  std::vector<SequenceTokens> sequences;
  std::vector<int32_t> ids;
  for (uint32_t i = 0; i < 40; ++i) {
    SequenceState state = Addresser::Start();
    if (i % 3 > 0) state.ids[0] = 100 + i;
    if (i % 3 > 1) state.ids[1] = 200 + i;
    sequences.push_back({state, 1 + i % 4});
    for (uint32_t t = 0; t < 1 + i % 4; ++t) ids.push_back(static_cast<int32_t>(10 * i + t));
  }
  std::vector<uint8_t> dead(ids.size());
  for (size_t i = 0; i < dead.size(); ++i) dead[i] = i % 5 == 0;
  const ColumnSlice slices[] = {ColumnSlice::Create({{{0, 1}, {2, 1}}}, kColumns).value(),
                                ColumnSlice::Create({{{0, 0}}}, kColumns).value(),
                                ColumnSlice::Create({{{1, 3}}}, kColumns).value()};
  const TokenBatch batch = {sequences, ids, dead, slices, true};
  const LayerRequest layers[] = {Of(9), Of(14), Of(1)};
  GrpcTokens tokens;
  for (const uint64_t message_bytes : {1u << 20, 1200u}) {
    tokens.Fill({.layers = layers, .tokens = &batch}, Scheme());
    EXPECT_TRUE(tokens.allows_unmasked_images());
    std::vector<uint32_t> lengths;
    std::vector<int32_t> sent, windows;
    std::vector<uint8_t> mask;
    GrpcTokens::Part part;
    int parts = 0;
    for (; (part = tokens.Next(part, message_bytes)).tokens > 0; ++parts) {
      const wire::RequestTokens on = tokens.On(part);
      EXPECT_LE(wire::RequestTokensBytes(on), message_bytes);
      EXPECT_THAT(on.layers, ElementsAre(9, 1));  // of the second nothing is asked
      EXPECT_THAT(on.runs_of_layer, ElementsAre(2, 1));
      EXPECT_EQ(on.runs[1].first_column, 2u);
      EXPECT_EQ(on.runs[2].columns, 3u);
      lengths.insert(lengths.end(), on.sequence_tokens.begin(), on.sequence_tokens.end());
      sent.insert(sent.end(), on.token_ids.begin(), on.token_ids.end());
      windows.insert(windows.end(), on.sequence_windows.begin(), on.sequence_windows.end());
      mask.insert(mask.end(), on.dead_mask.begin(), on.dead_mask.end());
    }
    EXPECT_EQ(parts > 1, message_bytes < 2000) << parts;
    EXPECT_EQ(sent, ids);
    EXPECT_EQ(mask, dead);
    ASSERT_EQ(lengths.size(), sequences.size());
    for (size_t i = 0; i < sequences.size(); ++i) {
      EXPECT_EQ(lengths[i], sequences[i].tokens);
      for (size_t j = 0; j < 2; ++j) {
        const int64_t id = sequences[i].state.ids[j];
        EXPECT_EQ(windows[2 * i + j], id == SequenceState::kBlocked ? -1 : id);
      }
    }
  }
}

TEST(GrpcTokensTest, ASequenceOfTheMostTokensFitsAMessage) {
  EXPECT_EQ(GrpcTokens::MaxSequenceTokens(1 << 20, 3, 2), GrpcTokens::kMostTokens);
  EXPECT_EQ(GrpcTokens::MaxSequenceTokens(300, 3, 2), 0u);
  const uint32_t most = GrpcTokens::MaxSequenceTokens(4096, 3, 2);
  EXPECT_GT(most, 600u);
  const std::vector<SequenceTokens> sequences(3, {Addresser::Start(), most});
  const std::vector<int32_t> ids(size_t{3} * most, 1 << 30);
  const std::vector<uint8_t> dead(ids.size(), 1);
  // The widest slices that there are.
  std::vector<ColumnRun> runs;
  for (uint32_t i = 0; i < ColumnSlice::kMaxRuns; ++i) runs.push_back({200 + 2 * i, 1});
  const std::vector<ColumnSlice> slices(3, ColumnSlice::Create(runs, 256).value());
  const TokenBatch batch = {sequences, ids, dead, slices};
  const LayerRequest layers[] = {Of(UINT32_MAX), Of(14), Of(1)};
  GrpcTokens tokens;
  tokens.Fill({.layers = layers, .tokens = &batch}, Scheme());
  GrpcTokens::Part part;
  int parts = 0;
  for (; (part = tokens.Next(part, 4096)).tokens > 0; ++parts) {
    EXPECT_EQ(part.sequences, 1u);
    EXPECT_LE(wire::RequestTokensBytes(tokens.On(part)) + 128, 4096u);
  }
  EXPECT_EQ(parts, 3);
}

}  // namespace
}  // namespace engram
