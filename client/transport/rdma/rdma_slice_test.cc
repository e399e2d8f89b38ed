// Batches of slices of columns: what travels of them, and where the owner's rows land.
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "client/transport/rdma/rdma_batch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr MonotonicTime kNow = MonotonicTime::FromNanoseconds(1'000'000'000);
constexpr uint32_t kColumns = 4, kLayers = 3, kRowBytes = 8;

ColumnSlice Slice(std::vector<ColumnRun> runs) {
  return ColumnSlice::Create(runs, kColumns).value();
}

Manifest ThreeLayers() {
  Manifest manifest;
  manifest.scheme.max_order = 2;
  manifest.scheme.heads_per_order = kColumns;
  for (uint32_t i = 0; i < kLayers; ++i) {
    manifest.layers.push_back(
        {.layer = 10 + i, .rows = 1000, .row_bytes = kRowBytes, .encoding = {}, .shards = {}});
  }
  return manifest;
}

// What an owner finds for a token's column.
std::array<uint32_t, 2> RowOf(uint32_t layer, int32_t token, uint32_t column) {
  return {layer * 100 + column, static_cast<uint32_t>(token)};
}

// A batch by token ids 1, 2, ... for slices of three layers, its memory, and an owner.
class Exchange {
 public:
  // `tile`: [tokens, layers, slice columns]; else layer after layer.
  Exchange(const std::vector<uint32_t>& lengths, std::vector<ColumnSlice> slices, bool tile)
      : slices_(std::move(slices)) {
    for (const uint32_t length : lengths) {
      sequences_.push_back({.state = {}, .tokens = length});
      sequences_.back().state.ids.fill(SequenceState::kBlocked);
      for (uint32_t i = 0; i < length; ++i) {
        token_ids_.push_back(static_cast<int32_t>(token_ids_.size()) + 1);
      }
    }
    uint64_t stride = 0, at = 0;
    for (const ColumnSlice& slice : slices_) stride += uint64_t{slice.columns()} * kRowBytes;
    memory_.resize(token_ids_.size() * stride, std::byte{0xA5});
    for (uint32_t l = 0; l < kLayers; ++l) {
      const uint64_t width = uint64_t{slices_[l].columns()} * kRowBytes;
      Landing landing{.data = memory_.data() + at};
      if (tile) landing.group_rows = slices_[l].columns(), landing.group_stride_bytes = stride;
      if (width == 0) landing = {};
      layers_.push_back({.layer = 10 + l, .row_ids = {}, .landing = landing});
      at += tile ? width : width * token_ids_.size();
    }
  }

  absl::Status Take() {
    tokens_ = {.sequences = sequences_, .token_ids = token_ids_, .dead = {}, .slices = slices_};
    return batch.Take(
        {.layers = layers_, .tokens = &tokens_}, ThreeLayers(),
        [this](const std::byte* data, uint64_t bytes) {
          EXPECT_GE(data, memory_.data());
          EXPECT_LE(data + bytes, memory_.data() + memory_.size());
          return RdmaLandingPlace{.offset = static_cast<uint64_t>(data - memory_.data())};
        });
  }
  RdmaBatch::Request Write() {
    buffer_.assign(kRdmaRequestBytes / sizeof(uint64_t), 0);
    const RdmaBatch::Request request =
        batch.WriteNext({1, 2}, kNow, reinterpret_cast<std::byte*>(buffer_.data()));
    const absl::Status parsed = ParseRdmaRequest(
        {reinterpret_cast<const std::byte*>(buffer_.data()), request.bytes}, &view);
    EXPECT_TRUE(parsed.ok()) << parsed;
    return request;
  }
  // What an owner does for layer `i` of the request that was written last, by what it says alone.
  void Serve(const RdmaBatch::Request& request, uint32_t i) {
    const RdmaRequestLayer& layer = view.layers[i];
    const bool sliced = (view.tokens.parts & kRdmaSlices) != 0;
    const ColumnSlice slice =
        sliced ? ColumnSlice::Create(view.runs[i], kColumns).value() : ColumnSlice::All(kColumns);
    ASSERT_EQ(layer.rows, view.token_ids.size() * slice.columns());
    const LandingShape shape{layer.group_rows, layer.group_stride_bytes};
    for (uint32_t row = 0; row < layer.rows; ++row) {
      const auto value = RowOf(layer.layer, view.token_ids[row / slice.columns()],
                               slice.LayerColumn(row % slice.columns()));
      const uint64_t at = layer.offset + shape.OffsetOf(row, kRowBytes);
      ASSERT_LE(at + kRowBytes, memory_.size());
      std::memcpy(memory_.data() + at, value.data(), kRowBytes);
    }
    batch.Land(request.layers[i]);
  }
  void WriteAndServeAll() {
    while (!batch.AllWritten()) {
      const RdmaBatch::Request request = Write();
      for (uint32_t i = 0; i < request.layer_count; ++i) Serve(request, i);
    }
  }
  // Whether [tokens, slice columns] of each layer are where they were to land.
  bool IsExact() const {
    for (uint32_t l = 0; l < kLayers; ++l) {
      const Landing& landing = layers_[l].landing;
      for (uint64_t row = 0; row < token_ids_.size() * slices_[l].columns(); ++row) {
        const auto value = RowOf(10 + l, token_ids_[row / slices_[l].columns()],
                                 slices_[l].LayerColumn(row % slices_[l].columns()));
        const std::byte* const got = landing.data + landing.shape().OffsetOf(row, kRowBytes);
        if (std::memcmp(got, value.data(), kRowBytes) != 0) return false;
      }
    }
    return true;
  }

  RdmaBatch batch;
  RdmaRequestView view;

 private:
  const std::vector<ColumnSlice> slices_;
  std::vector<SequenceTokens> sequences_;
  std::vector<int32_t> token_ids_;
  std::vector<std::byte> memory_;
  std::vector<LayerRequest> layers_;
  TokenBatch tokens_;
  std::vector<uint64_t> buffer_;  // on 8 bytes
};

TEST(RdmaSlice, RowsOfSlicesLandTokenByTokenWhateverTheirRuns) {
  for (const bool tile : {false, true}) {
    Exchange exchange({600, 500, 3, 1024},
                      {Slice({{0, 1}, {2, 2}}), Slice({{1, 1}}), Slice({{0, 4}})}, tile);
    ASSERT_TRUE(exchange.Take().ok());
    exchange.WriteAndServeAll();
    EXPECT_TRUE(exchange.batch.AllLanded());
    EXPECT_TRUE(exchange.IsExact()) << tile;
    EXPECT_THAT(exchange.view.runs[0], ElementsAre(ColumnRun{0, 1}, ColumnRun{2, 2}));
    EXPECT_THAT(exchange.view.runs[2], ElementsAre(ColumnRun{0, 4}));
  }
}

TEST(RdmaSlice, ALayerOfNoColumnsDoesNotTravelAndHasLanded) {
  for (const bool tile : {false, true}) {
    for (uint32_t empty = 0; empty < kLayers; ++empty) {
      std::vector<ColumnSlice> slices(kLayers, Slice({{1, 2}}));
      slices[empty] = Slice({});
      Exchange exchange({5, 1}, slices, tile);
      ASSERT_TRUE(exchange.Take().ok());
      for (uint32_t l = 0; l < kLayers; ++l) EXPECT_EQ(exchange.batch.HasLanded(l), l == empty);
      exchange.WriteAndServeAll();
      EXPECT_EQ(exchange.view.header.layers, kLayers - 1);
      EXPECT_TRUE(exchange.batch.AllLanded());
      EXPECT_TRUE(exchange.IsExact()) << tile << " " << empty;
    }
  }
  Exchange nothing({5}, std::vector<ColumnSlice>(kLayers, Slice({})), false);
  ASSERT_TRUE(nothing.Take().ok());
  EXPECT_TRUE(nothing.batch.AllWritten());
  EXPECT_TRUE(nothing.batch.AllLanded());
}

TEST(RdmaSlice, WhatHadLandedIsLeftAloneWhenItBeginsAgain) {
  Exchange exchange({1000, 1000}, {Slice({{0, 1}, {3, 1}}), Slice({}), Slice({{1, 3}})}, false);
  ASSERT_TRUE(exchange.Take().ok());
  for (int i = 0; i < 2; ++i) exchange.Serve(exchange.Write(), 0);  // the first layer's alone
  EXPECT_TRUE(exchange.batch.HasLanded(0));
  ASSERT_TRUE(exchange.batch.Restart());
  while (!exchange.batch.AllWritten()) {
    const RdmaBatch::Request again = exchange.Write();
    ASSERT_EQ(again.layer_count, 1u);
    EXPECT_EQ(again.layers[0].place, 2u);
    EXPECT_THAT(exchange.view.runs[0], ElementsAre(ColumnRun{1, 3}));
    exchange.Serve(again, 0);
  }
  EXPECT_TRUE(exchange.batch.AllLanded());
  EXPECT_TRUE(exchange.IsExact());
}

TEST(RdmaSlice, WhatTheOwnerDidNotOfferIsNotSent) {
  RdmaOwnerFeatures old, able;
  old.name = "engramd at owner:1";
  old.version = "0.0.7";
  able.token_slices = true;
  Exchange sliced({5}, {Slice({{0, 4}}), Slice({{0, 3}}), Slice({{0, 4}})}, false);
  ASSERT_TRUE(sliced.Take().ok());
  const absl::Status status = sliced.batch.CheckOffered(old);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("engramd at owner:1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("0.0.7"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(kEngramVersion));
  EXPECT_TRUE(sliced.batch.CheckOffered(able).ok());
  // All columns of what travels: any owner takes it.
  Exchange whole({5}, {Slice({{0, 4}}), Slice({}), Slice({{0, 4}})}, false);
  ASSERT_TRUE(whole.Take().ok());
  EXPECT_TRUE(whole.batch.CheckOffered(old).ok());
  whole.WriteAndServeAll();
  EXPECT_EQ(whole.view.tokens.parts, 0u);
  EXPECT_TRUE(whole.IsExact());
}

TEST(RdmaSlice, RowIdsOfASliceAreRowIdsAndNoneAreAskedForOfNone) {
  const ColumnSlice none = Slice({}), two = Slice({{1, 2}});
  const std::vector<RowId> ids = {300, 500, 301, 501};
  std::byte memory[4 * kRowBytes];
  const LayerRequest layers[] = {
      {.layer = 10, .row_ids = {}, .landing = {}, .slice = &none},
      {.layer = 11, .row_ids = ids, .landing = {.data = memory}, .slice = &two}};
  const auto take = [&](RdmaBatch& batch) {
    return batch.Take({.layers = layers}, ThreeLayers(), [&](const std::byte* data, uint64_t) {
      EXPECT_EQ(data, memory);
      return RdmaLandingPlace{};
    });
  };
  RdmaBatch batch;
  ASSERT_TRUE(take(batch).ok());
  EXPECT_TRUE(batch.HasLanded(0));
  EXPECT_TRUE(batch.NoneWritten());
  // By reading, too, where the owner's state is to be read before the first row.
  EXPECT_EQ(batch.NextRead().row, 300u);
  EXPECT_FALSE(batch.NoneWritten());
  ASSERT_TRUE(take(batch).ok());
  std::vector<uint64_t> buffer(kRdmaRequestBytes / sizeof(uint64_t));
  auto* const out = reinterpret_cast<std::byte*>(buffer.data());
  const RdmaBatch::Request request = batch.WriteNext({1, 2}, kNow, out);
  RdmaRequestView view;
  ASSERT_TRUE(ParseRdmaRequest({out, request.bytes}, &view).ok());
  ASSERT_EQ(view.header.layers, 1u);
  EXPECT_EQ(view.layers[0].layer, 11u);
  EXPECT_THAT(view.Ids32(0), ElementsAre(300, 500, 301, 501));
  EXPECT_TRUE(batch.AllWritten());
  // No ids of columns that are wanted are a mistake, not nothing to do.
  const LayerRequest missing{.layer = 11, .row_ids = {}, .landing = {.data = memory}};
  EXPECT_EQ(batch
                .Take({.layers = {&missing, 1}}, ThreeLayers(),
                      [](const std::byte*, uint64_t) { return RdmaLandingPlace{}; })
                .code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace engram
