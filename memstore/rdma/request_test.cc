#include "memstore/rdma/request.h"

#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/rdma/device.h"
#include "memstore/rdma/memlock.h"
#include "memstore/rdma/reply_ring.h"

namespace engram {
namespace {

// A request of two layers with 3 and 2 ids, on 8 bytes.
class RequestBytes {
 public:
  explicit RequestBytes(uint32_t id_bytes) {
    header() = {.magic = kRdmaRequestMagic,
                .version = kRdmaVersion,
                .layers = 2,
                .tag = RdmaImmediate({3, 77}, kRdmaAllLayers),
                .id_bytes = id_bytes,
                .batch = 9,
                .timeout_us = 0};
    layer(0) = {
        .layer = 1, .window = 4, .offset = 64, .group_stride_bytes = 0, .group_rows = 0, .rows = 3};
    layer(1) = {
        .layer = 14, .window = 4, .offset = 0, .group_stride_bytes = 0, .group_rows = 0, .rows = 2};
    bytes_ = RdmaHeadBytes(2) + RdmaIdBytes(3, id_bytes) + RdmaIdBytes(2, id_bytes);
  }
  RdmaRequestHeader& header() { return *reinterpret_cast<RdmaRequestHeader*>(words_); }
  RdmaRequestLayer& layer(int i) { return reinterpret_cast<RdmaRequestLayer*>(words_ + 4)[i]; }
  absl::Status Parse(int64_t more = 0) {
    return ParseRdmaRequest({reinterpret_cast<std::byte*>(words_), bytes_ + more}, &view);
  }
  RdmaRequestView view;

 private:
  uint64_t words_[64] = {};
  uint64_t bytes_ = 0;
};

TEST(RdmaRequest, IsReadAsItWasWritten) {
  for (const uint32_t id_bytes : {4u, 8u}) {
    RequestBytes request(id_bytes);
    ASSERT_TRUE(request.Parse().ok());
    EXPECT_EQ(request.view.header.batch, 9u);
    EXPECT_EQ(request.view.layers[1].layer, 14u);
    EXPECT_EQ(request.view.ids[0] - reinterpret_cast<std::byte*>(&request.header()), 96);
    EXPECT_EQ(request.view.ids[1] - request.view.ids[0], id_bytes == 4 ? 16 : 24);
    EXPECT_EQ(request.view.Ids32(0).size(), 3u);
    EXPECT_EQ(request.view.Ids64(1).size(), 2u);
  }
}

TEST(RdmaRequest, IsRefusedWhenItIsNotWhatItSays) {
  const auto refused = [](auto change, int64_t more = 0) {
    RequestBytes request(4);
    change(request);
    return request.Parse(more).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](RequestBytes& r) { r.header().magic = 1; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.header().version = 2; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.header().layers = 0; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.header().layers = kRdmaRequestLayers + 1; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.header().layers = kRdmaRequestLayers; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.header().id_bytes = 5; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.layer(0).rows = 5; }));
  EXPECT_TRUE(refused([](RequestBytes& r) { r.layer(0).rows = ~0u; }));
  EXPECT_TRUE(refused([](RequestBytes&) {}, 8));
  EXPECT_TRUE(refused([](RequestBytes&) {}, -8));
  EXPECT_TRUE(refused([](RequestBytes&) {}, -100));
  EXPECT_FALSE(refused([](RequestBytes&) {}));
}

// A request of one layer, by the token ids of two sequences.
std::vector<uint64_t> TokenRequest(const RdmaTokens& tokens, int64_t more_bytes,
                                   absl::Span<const std::byte>* bytes) {
  std::vector<uint64_t> words(4096);
  auto* const out = reinterpret_cast<std::byte*>(words.data());
  const RdmaRequestHeader header{.magic = kRdmaRequestMagic,
                                 .version = kRdmaVersion,
                                 .layers = 1,
                                 .tag = RdmaImmediate({3, 77}, kRdmaAllLayers),
                                 .id_bytes = kRdmaTokenIds,
                                 .batch = 9,
                                 .timeout_us = 0};
  std::memcpy(out, &header, sizeof(header));
  std::memcpy(out + RdmaHeadBytes(1), &tokens, sizeof(tokens));
  auto* const list = reinterpret_cast<int32_t*>(out + RdmaHeadBytes(1) + sizeof(tokens));
  for (int i = 0; i < 20; ++i) list[i] = 100 + i;
  *bytes = {out, static_cast<size_t>(static_cast<int64_t>(RdmaHeadBytes(1) + 4 * 12 + 16 + 8) +
                                     more_bytes)};
  return words;
}

TEST(RdmaRequest, TokenIdsAreReadAsTheyWereWritten) {
  absl::Span<const std::byte> bytes;
  const RdmaTokens tokens{.tokens = 4, .sequences = 2, .lookback = 3, .parts = kRdmaDead};
  const auto words = TokenRequest(tokens, 0, &bytes);
  ASSERT_EQ(RdmaTokenBytes(tokens), 4u * 12 + 16 + 8);
  RdmaRequestView view;
  const absl::Status status = ParseRdmaRequest(bytes, &view);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(view.sequence_tokens, absl::MakeConstSpan({100u, 101u}));
  EXPECT_EQ(view.windows, absl::MakeConstSpan({102, 103, 104, 105, 106, 107}));
  EXPECT_EQ(view.token_ids, absl::MakeConstSpan({108, 109, 110, 111}));
  EXPECT_EQ(view.dead, absl::MakeConstSpan(std::vector<uint8_t>{112, 0, 0, 0}));
}

TEST(RdmaRequest, TheMarkThatAllowsImagesIsNoPart) {
  absl::Span<const std::byte> bytes;
  RdmaTokens tokens{.tokens = 4, .sequences = 2, .lookback = 3, .parts = kRdmaDead};
  const uint64_t size = RdmaTokenBytes(tokens);
  tokens.parts |= kRdmaUnmaskedImages;
  EXPECT_EQ(RdmaTokenBytes(tokens), size);
  const auto words = TokenRequest(tokens, 0, &bytes);
  RdmaRequestView view;
  const absl::Status status = ParseRdmaRequest(bytes, &view);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(view.tokens.parts, kRdmaDead | kRdmaUnmaskedImages);
  EXPECT_EQ(view.token_ids, absl::MakeConstSpan({108, 109, 110, 111}));
}

TEST(RdmaRequest, TokenIdsThatAreNotWhatTheySayAreRefused) {
  const auto refused = [](const RdmaTokens& tokens, int64_t more = 0) {
    absl::Span<const std::byte> bytes;
    const auto words = TokenRequest(tokens, more, &bytes);
    RdmaRequestView view;
    return ParseRdmaRequest(bytes, &view).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused({4, 2, 3, 1}));
  EXPECT_TRUE(refused({0, 2, 3, 1}));
  EXPECT_TRUE(refused({kRdmaRequestTokens + 1, 2, 3, 1}));
  EXPECT_TRUE(refused({~0u, ~0u, 3, 1}));
  EXPECT_TRUE(refused({4, 0, 3, 1}));
  EXPECT_TRUE(refused({4, 5, 3, 1}));
  EXPECT_TRUE(refused({4, 2, kRdmaMostLookback + 1, 1}));
  EXPECT_TRUE(refused({4, 2, 1u << 31, 1}));
  EXPECT_TRUE(refused({4, 2, 3, kRdmaDead | 8}));  // a part of another year
  EXPECT_TRUE(refused({4, 2, 3, kRdmaSlices}));    // of 100 runs
  EXPECT_TRUE(refused({4, 2, 3, 1}, 8));
  EXPECT_TRUE(refused({4, 2, 3, 1}, -8));
  EXPECT_TRUE(refused({4, 2, 3, 1}, -72));
  EXPECT_TRUE(refused({4, 2, 3, 1}, -80));
}

// A request of two layers, by the token ids of one sequence, with these runs of columns: numbers as
// they lie, a count and then first column and columns of each.
class SliceRequest {
 public:
  explicit SliceRequest(std::vector<uint32_t> slices) {
    const RdmaRequestHeader header{.magic = kRdmaRequestMagic,
                                   .version = kRdmaVersion,
                                   .layers = 2,
                                   .tag = RdmaImmediate({3, 77}, kRdmaAllLayers),
                                   .id_bytes = kRdmaTokenIds,
                                   .batch = 9,
                                   .timeout_us = 0};
    const RdmaTokens tokens{.tokens = 3, .sequences = 1, .lookback = 1, .parts = kRdmaSlices};
    Put(&header, sizeof(header));
    const RdmaRequestLayer layers[2] = {};
    Put(layers, sizeof(layers));
    Put(&tokens, sizeof(tokens));
    Put(slices.data(), slices.size() * sizeof(uint32_t));
    const uint32_t rest[] = {3, 50, 60, 61, 62};
    Put(rest, sizeof(rest));
    bytes_ = (bytes_ + 7) / 8 * 8;
  }
  absl::Status Parse(int64_t more = 0) {
    return ParseRdmaRequest({reinterpret_cast<std::byte*>(words_), bytes_ + more}, &view);
  }
  RdmaRequestView view;

 private:
  void Put(const void* from, size_t bytes) {
    std::memcpy(reinterpret_cast<std::byte*>(words_) + bytes_, from, bytes);
    bytes_ += bytes;
  }
  uint64_t words_[128] = {};
  size_t bytes_ = 0;
};

TEST(RdmaRequest, SlicesAreReadAsTheyWereWritten) {
  SliceRequest request({2, 0, 2, 8, 1, 1, 5, 3});
  const absl::Status status = request.Parse();
  ASSERT_TRUE(status.ok()) << status;
  const ColumnRun first[] = {{0, 2}, {8, 1}}, second[] = {{5, 3}};
  EXPECT_EQ(request.view.runs[0], absl::MakeConstSpan(first));
  EXPECT_EQ(request.view.runs[1], absl::MakeConstSpan(second));
  EXPECT_EQ(request.view.sequence_tokens, absl::MakeConstSpan({3u}));
  EXPECT_EQ(request.view.windows, absl::MakeConstSpan({50}));
  EXPECT_EQ(request.view.token_ids, absl::MakeConstSpan({60, 61, 62}));
}

TEST(RdmaRequest, SlicesThatAreNotWhatTheySayAreRefused) {
  const auto refused = [](std::vector<uint32_t> slices, int64_t more = 0) {
    return SliceRequest(std::move(slices)).Parse(more).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused({1, 0, 2, 1, 5, 3}));
  EXPECT_TRUE(refused({0, 1, 5, 3}));          // none of the first layer
  EXPECT_TRUE(refused({1, 0, 2, 0}));          // none of the second
  EXPECT_TRUE(refused({1, 0, 2}));             // where the second one's are, there are tokens
  EXPECT_TRUE(refused({9, 0, 2, 1, 5, 3}));    // more than a slice has
  EXPECT_TRUE(refused({~0u, 0, 2, 1, 5, 3}));  // by far
  EXPECT_TRUE(refused({8, 0, 2, 1, 5, 3}));    // beyond the request's end
  EXPECT_TRUE(refused({1, 0, 2, 1, 5, 3}, 8));
  EXPECT_TRUE(refused({1, 0, 2, 1, 5, 3}, -8));
  for (int64_t end = -8; end >= -64; end -= 4) EXPECT_TRUE(refused({1, 0, 2, 1, 5, 3}, end));
  // What columns they name is the set's to judge.
  EXPECT_FALSE(refused({2, ~0u, ~0u, 3, 1, 1, 5, 3}));
}

TEST(RdmaRequest, ImmediatesKeepSlotLayerAndGeneration) {
  const uint32_t immediate = RdmaImmediate({15, 65535}, 3);
  EXPECT_EQ(RdmaTagOf(immediate), (RdmaTag{15, 65535}));
  EXPECT_EQ(RdmaLayerOf(immediate), 3);
}

TEST(RdmaRequest, RefusalsCarryCodeAndText) {
  const RdmaRefusal refusal =
      MakeRdmaRefusal(5, absl::InvalidArgumentError(std::string(2000, 'x')));
  absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(&refusal), sizeof(refusal));
  const absl::StatusOr<RdmaRefused> refused = ReadRdmaRefusal(bytes);
  ASSERT_TRUE(refused.ok()) << refused.status();
  EXPECT_EQ(refused->status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused->status.message(), std::string(sizeof(refusal.message), 'x'));
  EXPECT_EQ(refused->tag, 5u);
  EXPECT_EQ(ReadRdmaRefusal(bytes.subspan(1)).status().code(), absl::StatusCode::kInternal);
}

TEST(RdmaPlace, ExtentsReachToTheLastRow) {
  RdmaPlace place{.rows = 10, .row_bytes = 8};
  EXPECT_EQ(RdmaExtent(place).value(), 80u);
  place.shape = {.group_rows = 4, .group_stride_bytes = 100};
  EXPECT_EQ(RdmaExtent(place).value(), 216u);
  place.shape.group_stride_bytes = 31;
  EXPECT_FALSE(RdmaExtent(place).ok());
  constexpr LandingShape kHuge{.group_rows = 4, .group_stride_bytes = ~uint64_t{0} / 2};
  EXPECT_TRUE(RdmaExtent({.rows = 8, .row_bytes = 8, .shape = kHuge}).ok());
  EXPECT_FALSE(RdmaExtent({.rows = 13, .row_bytes = 8, .shape = kHuge}).ok());
  EXPECT_FALSE(RdmaExtent({.rows = 0, .row_bytes = 8}).ok());
}

TEST(RdmaPlace, LayersThatFillTheStrideAreOneRun) {
  std::vector<RdmaPlace> places = {{.offset = 132, .rows = 8, .row_bytes = 16, .shape = {4, 96}},
                                   {.offset = 100, .rows = 8, .row_bytes = 8, .shape = {4, 96}}};
  EXPECT_EQ(RdmaTile(places), 1);
  const auto broken = [&](auto change) {
    std::vector<RdmaPlace> other = places;
    change(other);
    return RdmaTile(other) == -1;
  };
  EXPECT_TRUE(broken([](auto& p) { p[0].offset += 1; }));
  EXPECT_TRUE(broken([](auto& p) { p[0].rows = 12; }));
  EXPECT_TRUE(broken([](auto& p) { p[0].rows = 7; }));
  EXPECT_TRUE(broken([](auto& p) { p[0].window = 2; }));
  EXPECT_TRUE(
      broken([](auto& p) { p[0].shape.group_stride_bytes = p[1].shape.group_stride_bytes = 97; }));
  EXPECT_TRUE(broken([](auto& p) { p[1].shape.group_stride_bytes = 97; }));
  EXPECT_TRUE(broken([](auto& p) { p.pop_back(); }));
  EXPECT_TRUE(broken([](auto& p) { p[0].shape.group_rows = 0; }));
}

TEST(RdmaReplyRing, GivesRunsInOneLapAndTakesThemBack) {
  ReplyRing ring(100);
  ASSERT_TRUE(ring.Has(40));
  EXPECT_EQ(ring.Take(40), 0u);
  const uint64_t first = ring.head();
  EXPECT_EQ(ring.Take(40), 40u);
  const uint64_t second = ring.head();
  EXPECT_FALSE(ring.Has(40));
  ring.FreeTo(first);
  ASSERT_TRUE(ring.Has(40));  // 20 bytes at the end stay unused
  EXPECT_FALSE(ring.Has(41));
  EXPECT_EQ(ring.Take(40), 0u);
  EXPECT_FALSE(ring.Has(1));
  ring.FreeTo(second);
  EXPECT_TRUE(ring.Has(40));
  EXPECT_EQ(ring.Take(40), 40u);
}

TEST(RdmaDeviceChoice, IsADeviceAPortAndAGid) {
  EXPECT_EQ(ParseRdmaDeviceChoice("rxe0").value(), (RdmaDeviceChoice{"rxe0", 1, -1}));
  EXPECT_EQ(ParseRdmaDeviceChoice("mlx5_0:2").value(), (RdmaDeviceChoice{"mlx5_0", 2, -1}));
  EXPECT_EQ(ParseRdmaDeviceChoice("mlx5_0:1:3").value(), (RdmaDeviceChoice{"mlx5_0", 1, 3}));
  for (const char* wrong : {"", ":1", "a:", "a:0", "a:256", "a:1:", "a:1:-1", "a:1:3:4", "a:x"}) {
    EXPECT_EQ(ParseRdmaDeviceChoice(wrong).status().code(), absl::StatusCode::kInvalidArgument)
        << wrong;
  }
}

TEST(RdmaMemlock, SaysHowToRaiseTheLimit) {
  EXPECT_TRUE(CheckMemlockLimit(100, 100).ok());
  const absl::Status status = CheckMemlockLimit(101, 100);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("LimitMEMLOCK=infinity"), status.message().npos) << status;
}

}  // namespace
}  // namespace engram
