#include "client/transport/rdma/rdma_batch.h"

#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr MonotonicTime kNow = MonotonicTime::FromNanoseconds(1'000'000'000);
constexpr uint32_t kWindow = 5;
constexpr uint64_t kWindowOffset = 4096;  // of the memory in its window
constexpr char kPayload[] = "test.payload";
constexpr uint32_t kColumns = 4, kLookback = 2;

Manifest ManifestOf(std::vector<uint32_t> row_bytes, uint64_t rows = 20'000) {
  Manifest manifest;
  manifest.scheme.max_order = kLookback + 1;
  manifest.scheme.heads_per_order = kColumns / kLookback;
  for (uint32_t i = 0; i < row_bytes.size(); ++i) {
    manifest.layers.push_back(
        {.layer = 10 + i, .rows = rows, .row_bytes = row_bytes[i], .encoding = {}, .shards = {}});
  }
  return manifest;
}

std::byte ByteOf(uint32_t layer, RowId id, uint64_t at) {
  return static_cast<std::byte>(uint64_t{layer} * 31 + id * 7 + (id >> 8) * 13 + at * 3 + 1);
}

// How the layers of a batch lie in memory.
enum class Layout {
  kLayers,  // one after the other
  kTokens,  // [tokens, layers, columns]: layers that fill each group together
  kGaps,    // groups with a gap after each
};

// A batch with the memory that it lands in, and an owner that answers its requests there.
class Exchange {
 public:
  Exchange(Manifest manifest, Layout layout, uint64_t rows, uint64_t group_rows = kColumns,
           bool by_tokens = false)
      : manifest_(std::move(manifest)), rows_(rows) {
    constexpr uint64_t kGap = 40;
    uint64_t stride = 0, at = 64;  // bytes before the first row stay as they are
    for (const LayerTableSpec& layer : manifest_.layers) stride += group_rows * layer.row_bytes;
    ids_.resize(manifest_.layers.size());
    std::vector<uint64_t> offsets;
    for (size_t l = 0; l < manifest_.layers.size(); ++l) {
      const LayerTableSpec& layer = manifest_.layers[l];
      for (uint64_t i = 0; i < rows; ++i) ids_[l].push_back((i * 7919 + l) % layer.rows);
      const uint64_t width = group_rows * layer.row_bytes;
      offsets.push_back(at);
      if (layout == Layout::kLayers) shapes_.push_back({});
      if (layout == Layout::kTokens) shapes_.push_back({group_rows, stride});
      if (layout == Layout::kGaps) shapes_.push_back({group_rows, width + kGap});
      at += layout == Layout::kTokens
                ? width
                : RdmaExtent({.rows = rows, .row_bytes = layer.row_bytes, .shape = shapes_.back()})
                          .value() +
                      (layout == Layout::kGaps ? kGap : 0);
    }
    memory_.resize(at + rows * stride / group_rows + 64, std::byte{0xA5});
    for (size_t l = 0; l < offsets.size(); ++l) {
      layers_.push_back({.layer = manifest_.layers[l].layer,
                         .row_ids = by_tokens ? absl::Span<const RowId>() : ids_[l],
                         .landing = {.data = memory_.data() + offsets[l],
                                     .group_rows = shapes_[l].group_rows,
                                     .group_stride_bytes = shapes_[l].group_stride_bytes}});
    }
  }

  absl::Status Take(MonotonicTime deadline = MonotonicTime::Infinite(),
                    const TokenBatch* tokens = nullptr) {
    return batch.Take({.layers = layers_, .deadline = deadline, .tokens = tokens}, manifest_,
                      [this](const std::byte* data, uint64_t bytes) { return Find(data, bytes); });
  }

  // The next request, as the owner reads it.
  RdmaBatch::Request Write(MonotonicTime now = kNow) {
    buffer_.assign(kRdmaRequestBytes / sizeof(uint64_t), 0);
    const RdmaBatch::Request request =
        batch.WriteNext({1, 2}, now, reinterpret_cast<std::byte*>(buffer_.data()), image_checks);
    EXPECT_LE(request.bytes, kRdmaRequestBytes);
    const absl::Status parsed = ParseRdmaRequest(
        {reinterpret_cast<const std::byte*>(buffer_.data()), request.bytes}, &view);
    EXPECT_TRUE(parsed.ok()) << parsed;
    EXPECT_EQ(view.header.layers, request.layer_count);
    for (uint32_t i = 0; i < request.layer_count; ++i) {
      EXPECT_EQ(view.layers[i].rows, request.layers[i].rows);
      EXPECT_EQ(view.layers[i].layer, layers_[request.layers[i].place].layer);
      // Groups travel whole.
      if (view.layers[i].group_rows != 0) {
        EXPECT_EQ(view.layers[i].rows % view.layers[i].group_rows, 0u);
      }
    }
    return request;
  }
  // What an owner does for layer `i` of the request that was written last.
  void Serve(const RdmaBatch::Request& request, uint32_t i) {
    const RdmaRequestLayer& layer = view.layers[i];
    const uint32_t row_bytes = manifest_.FindLayer(layer.layer)->row_bytes;
    const LandingShape shape{layer.group_rows, layer.group_stride_bytes};
    ASSERT_EQ(layer.window, kWindow);
    for (uint64_t row = 0; row < layer.rows; ++row) {
      const RowId id = view.header.id_bytes == 0   ? ids_[request.layers[i].place][addressed_ + row]
                       : view.header.id_bytes == 4 ? view.Ids32(i)[row]
                                                   : view.Ids64(i)[row];
      const uint64_t at = layer.offset - kWindowOffset + shape.OffsetOf(row, row_bytes);
      ASSERT_LE(at + row_bytes, memory_.size());
      for (uint64_t b = 0; b < row_bytes; ++b) memory_[at + b] = ByteOf(layer.layer, id, b);
    }
    const bool whole = batch.Land(request.layers[i]);
    EXPECT_EQ(whole, batch.HasLanded(request.layers[i].place));
  }
  void ServeAll(const RdmaBatch::Request& request) {
    for (uint32_t i = 0; i < request.layer_count; ++i) Serve(request, i);
    if (view.header.id_bytes == 0) addressed_ += view.layers[0].rows;
  }
  void WriteAndServeAll() {
    while (!batch.AllWritten()) ServeAll(Write());
  }
  void BeginAgain() { addressed_ = 0; }

  // Every row is where it was to land, and no other byte has changed; without `but`.
  bool IsExact(size_t but = SIZE_MAX) const {
    std::vector<std::byte> expected(memory_.size(), std::byte{0xA5});
    for (size_t l = 0; l < layers_.size(); ++l) {
      if (l == but) continue;
      const uint32_t row_bytes = manifest_.layers[l].row_bytes;
      const uint64_t begin = layers_[l].landing.data - memory_.data();
      for (uint64_t i = 0; i < rows_; ++i) {
        const uint64_t at = begin + shapes_[l].OffsetOf(i, row_bytes);
        for (uint64_t b = 0; b < row_bytes; ++b) {
          expected[at + b] = ByteOf(layers_[l].layer, ids_[l][i], b);
        }
      }
    }
    return expected == memory_;
  }

  std::vector<LayerRequest>& layers() { return layers_; }
  std::vector<std::byte>& memory() { return memory_; }
  const std::vector<RowId>& ids(size_t l) const { return ids_[l]; }

  RdmaBatch batch;
  RdmaRequestView view;       // of the request that was written last
  bool image_checks = false;  // the owner's

 private:
  absl::StatusOr<RdmaLandingPlace> Find(const std::byte* data, uint64_t bytes) const {
    if (data < memory_.data() || data + bytes > memory_.data() + memory_.size()) {
      absl::Status status = absl::InvalidArgumentError("not registered");
      status.SetPayload(kPayload, absl::Cord("x"));
      return status;
    }
    return RdmaLandingPlace{.window = kWindow,
                            .offset = kWindowOffset + static_cast<uint64_t>(data - memory_.data()),
                            .local_key = 77};
  }

  const Manifest manifest_;
  const uint64_t rows_;
  std::vector<std::vector<RowId>> ids_;
  std::vector<LandingShape> shapes_;
  std::vector<std::byte> memory_;
  std::vector<LayerRequest> layers_;
  std::vector<uint64_t> buffer_;  // on 8 bytes
  uint64_t addressed_ = 0;        // rows of each layer that were served by token ids
};

TEST(RdmaBatch, EveryRowIsAskedForOnceWhateverTheirNumberLayoutAndWidthOfIds) {
  for (const uint64_t table_rows : {uint64_t{20'000}, uint64_t{5} << 30}) {
    for (const Layout layout : {Layout::kLayers, Layout::kTokens, Layout::kGaps}) {
      // One group, around what a request holds (16,368 ids of 4 bytes), several requests.
      for (const uint64_t rows : {4u, 256u, 4088u, 8176u, 8184u, 16'364u, 16'368u, 33'000u}) {
        Exchange exchange(ManifestOf({24, 8}, table_rows), layout, rows);
        ASSERT_TRUE(exchange.Take().ok());
        EXPECT_TRUE(exchange.batch.NoneWritten());
        exchange.WriteAndServeAll();
        EXPECT_TRUE(exchange.batch.AllLanded());
        EXPECT_TRUE(exchange.IsExact())
            << table_rows << " " << static_cast<int>(layout) << " " << rows;
        EXPECT_EQ(exchange.view.header.id_bytes, table_rows > 20'000 ? 8u : 4u);
      }
    }
  }
}

TEST(RdmaBatch, LayersThatFillEachStrideTravelInWholeGroupsOfAllOfThem) {
  Exchange exchange(ManifestOf({24, 8, 16}), Layout::kTokens, 24'000);
  ASSERT_TRUE(exchange.Take().ok());
  int requests = 0;
  for (; !exchange.batch.AllWritten(); ++requests) {
    const RdmaBatch::Request request = exchange.Write();
    ASSERT_EQ(request.layer_count, 3u);
    std::vector<RdmaPlace> places;
    for (uint32_t i = 0; i < 3; ++i) {
      const RdmaRequestLayer& layer = exchange.view.layers[i];
      EXPECT_EQ(layer.rows % kColumns, 0u);
      places.push_back({.window = layer.window,
                        .offset = layer.offset,
                        .rows = layer.rows,
                        .row_bytes = i == 0   ? 24u
                                     : i == 1 ? 8u
                                              : 16u,
                        .shape = {layer.group_rows, layer.group_stride_bytes}});
    }
    EXPECT_EQ(RdmaTile(places), 0);  // so the owner writes it as one run
    exchange.ServeAll(request);
  }
  EXPECT_EQ(requests, 5);  // 3 * 24,000 ids of 4 bytes
  EXPECT_TRUE(exchange.IsExact());
}

TEST(RdmaBatch, GroupsLargerThanARequestAreCutWithinAndTheirGapsStay) {
  for (const Layout layout : {Layout::kTokens, Layout::kGaps}) {
    // A group of 20,000 ids takes more than one request; the third is not full.
    Exchange exchange(ManifestOf({8, 8}), layout, 40'000, 20'000);
    ASSERT_TRUE(exchange.Take().ok());
    exchange.WriteAndServeAll();
    EXPECT_TRUE(exchange.batch.AllLanded());
    EXPECT_TRUE(exchange.IsExact()) << static_cast<int>(layout);
  }
}

TEST(RdmaBatch, ARequestHasAtMostItsLayersAndTheRestFollow) {
  Exchange exchange(ManifestOf(std::vector<uint32_t>(20, 8)), Layout::kLayers, 4);
  ASSERT_TRUE(exchange.Take().ok());
  RdmaBatch::Request request = exchange.Write();
  EXPECT_EQ(request.layer_count, kRdmaRequestLayers);
  exchange.ServeAll(request);
  EXPECT_FALSE(exchange.batch.AllLanded());
  request = exchange.Write();
  EXPECT_EQ(request.layer_count, 20 - kRdmaRequestLayers);
  exchange.ServeAll(request);
  EXPECT_TRUE(exchange.batch.AllWritten());
  EXPECT_TRUE(exchange.IsExact());
}

TEST(RdmaBatch, WhatHadLandedIsLeftAloneWhenItBeginsAgain) {
  for (const Layout layout : {Layout::kLayers, Layout::kTokens}) {
    for (const uint32_t landed : {0u, 1u}) {
      Exchange exchange(ManifestOf({24, 8}), layout, 4088);
      ASSERT_TRUE(exchange.Take().ok());
      const RdmaBatch::Request request = exchange.Write();
      ASSERT_EQ(request.layer_count, 2u);
      ASSERT_TRUE(exchange.batch.AllWritten());
      exchange.Serve(request, landed);
      ASSERT_TRUE(exchange.batch.HasLanded(landed));
      // Its reader is at work in place.
      std::byte& first = *exchange.layers()[landed].landing.data;
      const std::byte right = std::exchange(first, std::byte{0x77});
      ASSERT_TRUE(exchange.batch.Restart());
      EXPECT_FALSE(exchange.batch.AllWritten());
      while (!exchange.batch.AllWritten()) {
        const RdmaBatch::Request again = exchange.Write();
        for (uint32_t i = 0; i < again.layer_count; ++i) {
          EXPECT_EQ(again.layers[i].place, 1 - landed);
        }
        exchange.ServeAll(again);
      }
      EXPECT_TRUE(exchange.batch.AllLanded());
      EXPECT_EQ(first, std::byte{0x77});
      first = right;
      EXPECT_TRUE(exchange.IsExact());
    }
  }
}

TEST(RdmaBatch, IdsOfEachLayerBeginOnEightBytesAndStillFit) {
  // 3,267 groups of one id would fit, were it not for what each layer is filled up by.
  Exchange exchange(ManifestOf(std::vector<uint32_t>(5, 8)), Layout::kTokens, 4001, 1);
  ASSERT_TRUE(exchange.Take().ok());
  exchange.WriteAndServeAll();
  EXPECT_TRUE(exchange.IsExact());
}

TEST(RdmaBatch, ALayerThatLandedInPartIsAskedForAsAWholeWhenItBeginsAgain) {
  for (const Layout layout : {Layout::kLayers, Layout::kTokens, Layout::kGaps}) {
    Exchange exchange(ManifestOf({24, 8}), layout, 20'000);
    ASSERT_TRUE(exchange.Take().ok());
    exchange.ServeAll(exchange.Write());
    static_cast<void>(exchange.Write());  // under way, and never answered
    ASSERT_TRUE(exchange.batch.Restart());
    EXPECT_TRUE(exchange.batch.NoneWritten());
    exchange.WriteAndServeAll();
    EXPECT_TRUE(exchange.batch.AllLanded());
    EXPECT_TRUE(exchange.IsExact()) << static_cast<int>(layout);
  }
}

TEST(RdmaBatch, ItBeginsAgainOnce) {
  Exchange exchange(ManifestOf({24}), Layout::kLayers, 4);
  ASSERT_TRUE(exchange.Take().ok());
  EXPECT_TRUE(exchange.batch.Restart());
  EXPECT_FALSE(exchange.batch.Restart());
  ASSERT_TRUE(exchange.Take().ok());  // for another ticket
  EXPECT_TRUE(exchange.batch.Restart());
}

TEST(RdmaBatch, TheOwnerIsToldHowLongItHas) {
  Exchange exchange(ManifestOf({24}), Layout::kLayers, 4);
  const auto told = [&](MonotonicTime deadline, MonotonicTime now) {
    EXPECT_TRUE(exchange.Take(deadline).ok());
    static_cast<void>(exchange.Write(now));
    return exchange.view.header.timeout_us;
  };
  EXPECT_EQ(told(kNow + absl::Milliseconds(3), kNow), 3000u);
  EXPECT_EQ(told(kNow, kNow), 1u);  // 0 would mean for ever
  EXPECT_EQ(told(kNow - absl::Seconds(1), kNow), 1u);
  EXPECT_EQ(told(kNow + absl::Hours(1), kNow), 0u);
  EXPECT_EQ(told(MonotonicTime::Infinite(), kNow), 0u);
}

TEST(RdmaBatch, LandingsThatCannotBeAreRefusedWithTheLayersName) {
  Exchange exchange(ManifestOf({24, 8}), Layout::kGaps, 16);
  exchange.layers()[1].landing.data = exchange.memory().data() - 8;
  absl::Status status = exchange.Take();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 11: not registered"));
  EXPECT_TRUE(status.GetPayload(kPayload).has_value());  // another transport may take it
  exchange.layers()[1].landing.data = exchange.memory().data();
  exchange.layers()[1].landing.group_stride_bytes = 31;
  status = exchange.Take();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 11: a group of 4 rows"));
  exchange.layers()[1].landing.group_stride_bytes = 32;
  const std::vector<uint32_t> places(16, 0);
  exchange.layers()[0].landing.places = places;
  status = exchange.Take();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 10: its landing lists places"));
}

TEST(RdmaBatch, ByReadingEveryRowIsReadOnceToItsPlace) {
  for (const Layout layout : {Layout::kLayers, Layout::kTokens, Layout::kGaps}) {
    Exchange exchange(ManifestOf({24, 8}), layout, 100);
    ASSERT_TRUE(exchange.Take().ok());
    uint64_t reads = 0;
    for (; !exchange.batch.AllWritten(); ++reads) {
      const RdmaBatch::Read read = exchange.batch.NextRead();
      EXPECT_EQ(read.local_key, 77u);
      for (uint64_t b = 0; b < read.row_bytes; ++b) {
        read.to[b] = ByteOf(read.layer, read.row, b);
      }
    }
    EXPECT_EQ(reads, 200u);
    EXPECT_TRUE(exchange.IsExact()) << static_cast<int>(layout);
  }
}

TEST(RdmaBatch, RowsAreCheckedLayerByLayerUntilOneIsWrong) {
  Exchange exchange(ManifestOf({24, 8}), Layout::kLayers, 10);
  ASSERT_TRUE(exchange.Take().ok());
  uint32_t wrong = 0;
  uint64_t seen = 0;
  const auto check = [&](uint32_t layer, absl::Span<const RowId> ids) {
    EXPECT_EQ(ids, absl::MakeConstSpan(exchange.ids(seen)));
    ++seen;
    return layer == wrong ? absl::FailedPreconditionError("no") : absl::OkStatus();
  };
  wrong = 10;
  EXPECT_EQ(exchange.batch.CheckRows(check).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(seen, 1u);
  seen = 0;
  wrong = 11;
  EXPECT_EQ(exchange.batch.CheckRows(check).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(seen, 2u);
}

// Sequences of a batch by token ids, and what stands before each.
struct Tokens {
  explicit Tokens(const std::vector<uint32_t>& lengths, bool with_dead) {
    for (const uint32_t length : lengths) {
      SequenceTokens sequence{.state = {}, .tokens = length};
      sequence.state.ids.fill(SequenceState::kBlocked);
      sequence.state.ids[0] = 100 + static_cast<int64_t>(sequences.size());
      sequences.push_back(sequence);
      for (uint32_t i = 0; i < length; ++i) {
        token_ids.push_back(static_cast<int32_t>(token_ids.size()) + 1);
        if (with_dead) dead.push_back(token_ids.size() % 3 == 0);
      }
    }
    rows = {.sequences = sequences, .token_ids = token_ids, .dead = dead};
  }
  std::vector<SequenceTokens> sequences;
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> dead;
  TokenBatch rows;
};

TEST(RdmaBatch, TokenIdsTravelInWholeSequencesAndAllLayersAtOnce) {
  for (const Layout layout : {Layout::kLayers, Layout::kTokens, Layout::kGaps}) {
    for (const bool dead : {false, true}) {
      const Tokens tokens({600, 424, 1, 1024, 3, 3, 3}, dead);
      const uint64_t count = tokens.token_ids.size();
      Exchange exchange(ManifestOf({24, 8}), layout, count * kColumns, kColumns, true);
      ASSERT_TRUE(exchange.Take(MonotonicTime::Infinite(), &tokens.rows).ok());
      std::vector<size_t> sequences;
      uint64_t next_sequence = 0, next_token = 0;
      while (!exchange.batch.AllWritten()) {
        const RdmaBatch::Request request = exchange.Write();
        const RdmaRequestView& view = exchange.view;
        EXPECT_EQ(view.header.id_bytes, kRdmaTokenIds);
        EXPECT_EQ(request.layer_count, 2u);
        EXPECT_EQ(view.layers[0].rows, view.tokens.tokens * kColumns);
        sequences.push_back(view.sequence_tokens.size());
        for (size_t i = 0; i < view.sequence_tokens.size(); ++i) {
          EXPECT_EQ(view.sequence_tokens[i], tokens.sequences[next_sequence + i].tokens);
          EXPECT_EQ(view.windows[i * kLookback], 100 + static_cast<int>(next_sequence + i));
          EXPECT_EQ(view.windows[i * kLookback + 1], -1);
        }
        for (size_t i = 0; i < view.token_ids.size(); ++i) {
          EXPECT_EQ(view.token_ids[i], tokens.token_ids[next_token + i]);
          if (dead) {
            EXPECT_EQ(view.dead[i], tokens.dead[next_token + i]);
          }
        }
        EXPECT_EQ(view.dead.empty(), !dead);
        next_sequence += view.sequence_tokens.size();
        next_token += view.token_ids.size();
        exchange.ServeAll(request);
      }
      EXPECT_EQ(sequences, (std::vector<size_t>{2, 1, 1, 3}));
      EXPECT_TRUE(exchange.batch.AllLanded());
      EXPECT_TRUE(exchange.IsExact()) << static_cast<int>(layout);
    }
  }
}

TEST(RdmaBatch, ByTokenIdsALayerThatHadLandedIsLeftAloneToo) {
  const Tokens tokens({1000, 1000}, false);
  Exchange exchange(ManifestOf({24, 8}), Layout::kGaps, uint64_t{2000} * kColumns, kColumns, true);
  ASSERT_TRUE(exchange.Take(MonotonicTime::Infinite(), &tokens.rows).ok());
  exchange.ServeAll(exchange.Write());
  const RdmaBatch::Request second = exchange.Write();
  exchange.Serve(second, 1);
  ASSERT_TRUE(exchange.batch.HasLanded(1));
  ASSERT_TRUE(exchange.batch.Restart());
  exchange.BeginAgain();
  while (!exchange.batch.AllWritten()) {
    const RdmaBatch::Request again = exchange.Write();
    ASSERT_EQ(again.layer_count, 1u);
    EXPECT_EQ(again.layers[0].place, 0u);
    exchange.ServeAll(again);
  }
  EXPECT_TRUE(exchange.batch.AllLanded());
  EXPECT_TRUE(exchange.IsExact());
}

// To an owner that knows no such mark it would be a request of another year's.
TEST(RdmaBatch, ByTokenIdsImagesAreAllowedByAMarkWhereTheOwnerTakesIt) {
  for (const bool allow : {false, true}) {
    for (const bool owner_checks : {false, true}) {
      Tokens tokens({5}, true);
      tokens.rows.allow_unmasked_images = allow;
      Exchange exchange(ManifestOf({8}), Layout::kLayers, uint64_t{5} * kColumns, kColumns, true);
      exchange.image_checks = owner_checks;
      ASSERT_TRUE(exchange.Take(MonotonicTime::Infinite(), &tokens.rows).ok());
      exchange.ServeAll(exchange.Write());
      EXPECT_EQ(exchange.view.tokens.parts,
                kRdmaDead | (allow && owner_checks ? kRdmaUnmaskedImages : 0));
      EXPECT_TRUE(exchange.IsExact());
    }
  }
}

TEST(RdmaBatch, ByTokenIdsMoreLayersThanARequestHasAreRefused) {
  const Tokens tokens({1}, false);
  Exchange exchange(ManifestOf(std::vector<uint32_t>(kRdmaRequestLayers + 1, 8)), Layout::kLayers,
                    kColumns, kColumns, true);
  const absl::Status status = exchange.Take(MonotonicTime::Infinite(), &tokens.rows);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("16 at most"));
  exchange.layers().pop_back();
  EXPECT_TRUE(exchange.Take(MonotonicTime::Infinite(), &tokens.rows).ok());
}

}  // namespace
}  // namespace engram
