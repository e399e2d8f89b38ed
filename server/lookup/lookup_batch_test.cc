// What leaves the server is held against protobuf's own parser and the synthetic rule.
#include "server/lookup/lookup_batch.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram {
namespace {

struct LayerShape {
  uint32_t layer;
  uint32_t row_bytes;
  uint64_t rows;
};
// The narrow, the real and the widest rows.
constexpr LayerShape kShapes[] = {{1, 264, 5000}, {7, 110, 4100}, {14, 4096, 300}};
constexpr MonotonicTime kNow = MonotonicTime::FromNanoseconds(1000000);
constexpr LookupLimits kNoLimit{.max_batch_rows = 1 << 20, .max_reply_bytes = 0};

const LayerShape& ShapeOf(uint32_t layer) {
  for (const LayerShape& shape : kShapes) {
    if (shape.layer == layer) return shape;
  }
  ADD_FAILURE() << "no layer " << layer;
  return kShapes[0];
}

// What is asked of a layer, in the order of the request.
struct Asked {
  uint32_t layer;
  std::vector<uint64_t> ids;
  bool wide = false;
};

class LookupBatchTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    testing::SmallTableSet small;
    small.layers.clear();
    for (const LayerShape& shape : kShapes) {
      small.layers.push_back(
          {.layer = shape.layer, .row_bytes = shape.row_bytes, .rows = shape.rows});
    }
    const std::string directory = absl::StrCat(::testing::TempDir(), "/lookup_batch_set");
    ASSERT_TRUE(testing::WriteSmallTableSet(small, directory).ok());
    auto set = TableSet::Load(directory, {});
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = new std::shared_ptr<const TableSet>(*std::move(set));
    registry_ = new TableSetRegistry;
    ASSERT_TRUE(registry_->Publish(*set_).ok());
    team_ = GatherTeam::Create(2, "test").value().release();
  }
  static void TearDownTestSuite() {
    delete team_;
    delete registry_;
    delete set_;
  }

  static Asked Some(uint32_t layer, size_t count, uint32_t seed, bool wide = false) {
    std::mt19937 random(seed);
    Asked asked{.layer = layer, .ids = {}, .wide = wide};
    for (size_t i = 0; i < count; ++i) asked.ids.push_back(random() % ShapeOf(layer).rows);
    return asked;
  }
  static v1::LookupRequest Request(const std::vector<Asked>& asked, uint64_t batch_id = 300) {
    v1::LookupRequest request;
    request.set_table_set_id((*set_)->id());
    request.set_batch_id(batch_id);
    for (const Asked& one : asked) {
      v1::LayerRowIds* layer = request.add_layers();
      layer->set_layer(one.layer);
      for (const uint64_t id : one.ids) {
        one.wide ? layer->add_row_ids64(id) : layer->add_row_ids32(static_cast<uint32_t>(id));
      }
    }
    return request;
  }
  // `bytes` in a chain whose parts end where gRPC happened to end them.
  static absl::Status Parse(LookupBatch& batch, const std::string& bytes, size_t part) {
    std::vector<wire::Bytes> chain;
    const auto* at = reinterpret_cast<const uint8_t*>(bytes.data());
    for (size_t first = 0; first < bytes.size(); first += part) {
      chain.push_back({at + first, std::min(part, bytes.size() - first)});
    }
    return batch.Parse(chain, kNow);
  }
  static void Take(LookupBatch& batch, const v1::LookupRequest& request,
                   const LookupLimits& limits = kNoLimit) {
    absl::Status status = Parse(batch, request.SerializeAsString(), 1000);
    ASSERT_TRUE(status.ok()) << status;
    status = batch.Prepare(*registry_, limits);
    ASSERT_TRUE(status.ok()) << status;
  }
  static v1::LookupResponse Parsed(absl::Span<const std::byte> message) {
    v1::LookupResponse response;
    EXPECT_TRUE(response.ParseFromArray(message.data(), static_cast<int>(message.size())));
    EXPECT_EQ(response.table_set_id(), (*set_)->id());
    EXPECT_EQ(response.code(), 0u);
    // Nothing in it that protobuf would not have written.
    EXPECT_EQ(response.ByteSizeLong(), message.size());
    return response;
  }
  static void ExpectRows(const Asked& asked, uint64_t first, const std::string& rows) {
    const uint32_t row_bytes = ShapeOf(asked.layer).row_bytes;
    ASSERT_EQ(rows.size() % row_bytes, 0u);
    ASSERT_LE(first + rows.size() / row_bytes, asked.ids.size());
    const auto* at = reinterpret_cast<const std::byte*>(rows.data());
    for (size_t i = 0; i < rows.size() / row_bytes; ++i, at += row_bytes) {
      ASSERT_TRUE(IsSyntheticRow(asked.layer, asked.ids[first + i], {at, row_bytes}))
          << "row " << first + i << " of layer " << asked.layer;
    }
  }

  static void NotLater(const absl::Status&) { ADD_FAILURE() << "the rows were there"; }
  static void BeginNow(const absl::StatusOr<RowSource::When>& when) {
    ASSERT_TRUE(when.ok()) << when.status();
    EXPECT_EQ(*when, RowSource::When::kNow);
  }

  // All messages of a stream's answer; returns how many.
  static size_t ExpectStream(LookupBatch& batch, const std::vector<Asked>& asked,
                             uint64_t rows_bytes) {
    // What the server's slabs have beside the rows, and a guard behind it.
    constexpr size_t kRoom = 4096, kGuard = 64;
    std::vector<std::byte> slab(rows_bytes + kMaxRowBytes + kRoom + kGuard);
    size_t messages = 0, layer = 0;
    uint64_t row = 0;
    while (!batch.done()) {
      std::fill(slab.end() - kGuard, slab.end(), std::byte{0xA5});
      const absl::Span<std::byte> memory = absl::MakeSpan(slab).first(slab.size() - kGuard);
      BeginNow(batch.BeginMessage(rows_bytes, nullptr, NotLater));
      const absl::Span<std::byte> message = batch.FillMessage(*team_, memory);
      EXPECT_EQ(std::count(slab.end() - kGuard, slab.end(), std::byte{0xA5}), kGuard);
      const v1::LookupResponse response = Parsed(message);
      EXPECT_EQ(response.batch_id(), batch.batch_id());
      EXPECT_EQ(response.last(), batch.done()) << "message " << messages;
      EXPECT_GT(response.layers_size(), 0);
      uint64_t bytes = 0;
      for (const v1::LayerRowData& run : response.layers()) {
        if (layer == asked.size()) {
          ADD_FAILURE() << "more than was asked for";
          return messages;
        }
        EXPECT_EQ(run.layer(), asked[layer].layer);
        EXPECT_EQ(run.first_row(), row);
        ExpectRows(asked[layer], row, run.rows());
        bytes += run.rows().size();
        row += run.rows().size() / ShapeOf(run.layer()).row_bytes;
        if (row == asked[layer].ids.size()) ++layer, row = 0;
      }
      EXPECT_LE(bytes, std::max<uint64_t>(rows_bytes, kMaxRowBytes));
      ++messages;
      if (::testing::Test::HasFailure()) return messages;
    }
    EXPECT_EQ(layer, asked.size());
    return messages;
  }

  // The one message of a unary answer, put together from slabs of `slab_bytes`.
  static void ExpectUnary(LookupBatch& batch, const std::vector<Asked>& asked,
                          uint64_t slab_bytes) {
    std::string message;
    const uint64_t expected_bytes = batch.ReplyBytes();
    BeginNow(batch.BeginReply(nullptr, NotLater));
    for (int slabs = 0; !batch.done(); ++slabs) {
      ASSERT_LT(slabs, 100'000);
      // Where in the cache line a slab begins makes no difference.
      std::vector<std::byte> slab(slab_bytes + slabs % 3);
      const absl::Span<std::byte> part =
          batch.FillPart(*team_, absl::MakeSpan(slab).subspan(slabs % 3));
      message.append(reinterpret_cast<const char*>(part.data()), part.size());
    }
    EXPECT_EQ(message.size(), expected_bytes);
    const v1::LookupResponse response =
        Parsed({reinterpret_cast<const std::byte*>(message.data()), message.size()});
    EXPECT_EQ(response.batch_id(), batch.batch_id());
    EXPECT_FALSE(response.last());
    ASSERT_EQ(response.layers_size(), static_cast<int>(asked.size()));
    for (size_t i = 0; i < asked.size(); ++i) {
      const v1::LayerRowData& layer = response.layers(static_cast<int>(i));
      EXPECT_EQ(layer.layer(), asked[i].layer);
      EXPECT_EQ(layer.first_row(), 0u);
      ASSERT_EQ(layer.rows().size(), asked[i].ids.size() * ShapeOf(asked[i].layer).row_bytes);
      ExpectRows(asked[i], 0, layer.rows());
    }
  }

  static std::shared_ptr<const TableSet>* set_;
  static TableSetRegistry* registry_;
  static GatherTeam* team_;
};

std::shared_ptr<const TableSet>* LookupBatchTest::set_ = nullptr;
TableSetRegistry* LookupBatchTest::registry_ = nullptr;
GatherTeam* LookupBatchTest::team_ = nullptr;

TEST_F(LookupBatchTest, StreamsAreExactWhereverTheyAreCut) {
  const std::vector<std::vector<Asked>> batches = {
      {Some(1, 1, 1)},
      {Some(14, 40, 2)},
      {Some(1, 700, 3), Some(7, 500, 4, /*wide=*/true), Some(14, 60, 5)},
      {Some(14, 3, 6, /*wide=*/true), Some(1, 1, 7), Some(7, 2500, 8)},
  };
  LookupBatch batch;  // one for all: nothing of a batch is left to the next
  for (const std::vector<Asked>& asked : batches) {
    uint64_t whole = 0;
    for (const Asked& one : asked) whole += one.ids.size() * ShapeOf(one.layer).row_bytes;
    for (const uint64_t rows_bytes :
         {uint64_t{1}, uint64_t{110}, uint64_t{264}, uint64_t{4095}, uint64_t{4096},
          uint64_t{10'000}, uint64_t{65'536}, whole - 1, whole, whole + 1, uint64_t{1} << 20}) {
      SCOPED_TRACE(absl::StrCat(asked.size(), " layers, cut at ", rows_bytes));
      Take(batch, Request(asked, rows_bytes));
      const size_t messages = ExpectStream(batch, asked, rows_bytes);
      size_t rows = 0;
      for (const Asked& one : asked) rows += one.ids.size();
      if (rows_bytes == 1) {
        EXPECT_EQ(messages, rows);
      } else if (rows_bytes >= whole) {
        EXPECT_EQ(messages, 1u);
      }
      if (HasFailure()) return;
    }
  }
}

TEST_F(LookupBatchTest, UnaryRepliesAreExactWhateverTheSlabs) {
  const std::vector<std::vector<Asked>> batches = {
      {Some(7, 1, 1)},
      {Some(1, 3000, 2)},
      {Some(1, 700, 3), Some(7, 500, 4, /*wide=*/true), Some(14, 60, 5)},
      {Some(14, 100, 6), Some(7, 4000, 7)},
  };
  LookupBatch batch;
  for (const std::vector<Asked>& asked : batches) {
    for (const uint64_t slab_bytes : {4500, 5000, 8192, 100'000, 1 << 20, 4 << 20}) {
      SCOPED_TRACE(absl::StrCat(asked.size(), " layers, slabs of ", slab_bytes));
      Take(batch, Request(asked, slab_bytes));
      ExpectUnary(batch, asked, slab_bytes);
      if (HasFailure()) return;
    }
  }
}

// Slabs that end in every place of a layer's head and of its first row.
TEST_F(LookupBatchTest, UnaryRepliesAreExactWhereverASlabEnds) {
  const std::vector<Asked> asked = {Some(14, 1, 1), Some(7, 40, 2), Some(1, 15, 3)};
  LookupBatch batch;
  for (uint64_t slab_bytes = 4240; slab_bytes < 4900; ++slab_bytes) {
    SCOPED_TRACE(absl::StrCat("slabs of ", slab_bytes));
    Take(batch, Request(asked));
    ExpectUnary(batch, asked, slab_bytes);
    if (HasFailure()) return;
  }
}

// The small table set's scheme: bigrams, one column, every layer its own table.
TEST_F(LookupBatchTest, TokenBatchesAreExact) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 900; ++i) ids.push_back((i * 37 + i / 7) % 100);
  std::vector<Asked> asked;
  for (const LayerShape& shape : kShapes) {
    Asked one{.layer = shape.layer, .ids = {}};
    for (size_t i = 0; i < ids.size(); ++i) {
      const uint64_t id = ids[i], before = i == 0 ? 0 : ids[i - 1];
      one.ids.push_back(((id * 3) ^ (before * 5)) % shape.rows);
    }
    asked.push_back(std::move(one));
  }
  v1::LookupRequest request = Request({}, 9);
  request.mutable_tokens()->mutable_token_ids()->Add(ids.begin(), ids.end());
  LookupBatch batch;
  for (const uint64_t rows_bytes : {1, 5000, 1 << 20, 16 << 20}) {
    Take(batch, request);
    ExpectStream(batch, asked, rows_bytes);
  }
  Take(batch, request);
  EXPECT_EQ(batch.Tokens(), ids.size());
  EXPECT_TRUE(batch.DeadMask().empty());
  ExpectUnary(batch, asked, 1 << 20);
}

// As clients of ours send them: windows in the place of lookback tokens, layers in any order.
TEST_F(LookupBatchTest, SequencesAfterTheirWindowsAreExact) {
  v1::LookupRequest request = Request({}, 9);
  v1::TokenBatch& tokens = *request.mutable_tokens();
  std::vector<Asked> asked = {{.layer = 14, .ids = {}}, {.layer = 1, .ids = {}}};
  for (const Asked& one : asked) tokens.add_layers(one.layer);
  for (uint64_t sequence = 0; sequence < 20; ++sequence) {
    uint64_t before = sequence % 3 == 0 ? 0 : 10 + sequence;  // 0: the pad
    tokens.add_sequence_windows(before == 0 ? -1 : static_cast<int32_t>(before));
    tokens.add_sequence_tokens(static_cast<uint32_t>(1 + sequence % 2));
    for (uint64_t i = 0; i < 1 + sequence % 2; ++i) {
      const uint64_t id = 30 + 2 * sequence + i;
      tokens.add_token_ids(static_cast<int32_t>(id));
      for (Asked& one : asked) {
        one.ids.push_back(((id * 3) ^ (before * 5)) % ShapeOf(one.layer).rows);
      }
      before = id;
    }
  }
  LookupBatch batch;
  for (const uint64_t rows_bytes : {1, 5000, 1 << 20}) {
    Take(batch, request);
    ExpectStream(batch, asked, rows_bytes);
  }
  Take(batch, request);
  ExpectUnary(batch, asked, 1 << 20);

  const auto refused = [&](auto change) {
    v1::LookupRequest wrong = request;
    change(*wrong.mutable_tokens());
    EXPECT_TRUE(Parse(batch, wrong.SerializeAsString(), 7).ok());
    return batch.Prepare(*registry_, kNoLimit).code();
  };
  constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refused([](auto& t) { t.add_sequence_windows(1); }), kInvalid);
  EXPECT_EQ(refused([](auto& t) { t.mutable_sequence_windows()->Truncate(1); }), kInvalid);
  EXPECT_EQ(refused([](auto& t) { t.set_sequence_windows(3, -2); }), kInvalid);
  EXPECT_EQ(refused([](auto& t) { t.add_sequence_lookback(1); }), kInvalid);
  EXPECT_EQ(refused([](auto& t) { t.set_dead_mask("1"); }), kInvalid);
  EXPECT_EQ(refused([](auto& t) { t.clear_layers(); }), kInvalid);
  EXPECT_EQ(refused([](auto& t) { t.add_columns(); }), kInvalid);
}

TEST_F(LookupBatchTest, BatchesMayBeFilledByTurns) {
  const std::vector<Asked> one = {Some(1, 300, 1), Some(7, 20, 2)}, two = {Some(14, 30, 3)};
  LookupBatch first, second;
  Take(first, Request(one, 1));
  Take(second, Request(two, 2));
  std::vector<std::byte> slab(64 << 10);
  v1::LookupResponse merged[2];
  while (!first.done() || !second.done()) {
    for (LookupBatch* batch : {&first, &second}) {
      if (batch->done()) continue;
      BeginNow(batch->BeginMessage(8192, nullptr, NotLater));
      const auto response = Parsed(batch->FillMessage(*team_, absl::MakeSpan(slab)));
      ASSERT_EQ(response.batch_id(), batch->batch_id());
      merged[batch == &second].MergeFrom(response);
    }
  }
  for (const v1::LayerRowData& run : merged[0].layers()) {
    ExpectRows(one[run.layer() == 7], run.first_row(), run.rows());
  }
  for (const v1::LayerRowData& run : merged[1].layers()) {
    ExpectRows(two[0], run.first_row(), run.rows());
  }
}

TEST_F(LookupBatchTest, SaysWhoseItIsWhenItIsRefused) {
  LookupBatch batch;
  EXPECT_EQ(Parse(batch, "\xff\xff\xff", 2).code(), absl::StatusCode::kInvalidArgument);

  const auto refused = [&](const v1::LookupRequest& request, const LookupLimits& limits) {
    EXPECT_TRUE(Parse(batch, request.SerializeAsString(), 7).ok());
    EXPECT_EQ(batch.batch_id(), request.batch_id());
    return batch.Prepare(*registry_, limits);
  };
  v1::LookupRequest unknown = Request({Some(1, 1, 1)}, 41);
  unknown.set_table_set_id("other");
  EXPECT_EQ(refused(unknown, kNoLimit).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(refused(Request({{.layer = 1, .ids = {5000}}}, 42), kNoLimit).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(Request({{.layer = 2, .ids = {0}}}, 43), kNoLimit).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      refused(Request({Some(1, 100, 1)}, 44), {.max_batch_rows = 1000, .max_reply_bytes = 999})
          .code(),
      absl::StatusCode::kInvalidArgument);
  // And is of use afterwards.
  const std::vector<Asked> asked = {Some(1, 5, 1)};
  Take(batch, Request(asked, 45));
  EXPECT_EQ(ExpectStream(batch, asked, 1 << 20), 1u);
}

TEST_F(LookupBatchTest, KeepsDeadlinesAndCancels) {
  LookupBatch batch;
  v1::LookupRequest request = Request({Some(1, 1, 1)});
  Take(batch, request);
  EXPECT_EQ(batch.deadline(), MonotonicTime::Infinite());
  request.set_timeout_us(3'600'000'000);
  Take(batch, request);
  EXPECT_EQ(batch.deadline(), kNow + absl::Hours(1));
  // Later than the clock can say.
  request.set_timeout_us(UINT64_MAX);
  Take(batch, request);
  EXPECT_EQ(batch.deadline(), MonotonicTime::Infinite());

  v1::LookupRequest cancel;
  cancel.set_batch_id(77);
  cancel.set_cancel(true);
  ASSERT_TRUE(Parse(batch, cancel.SerializeAsString(), 3).ok());
  EXPECT_TRUE(batch.cancels());
  EXPECT_EQ(batch.batch_id(), 77u);
}

TEST_F(LookupBatchTest, PinsItsTableSetUntilItIsReleased) {
  LookupBatch batch;
  const long before = set_->use_count();
  Take(batch, Request({Some(1, 10, 1)}));
  EXPECT_EQ(set_->use_count(), before + 1);
  EXPECT_GE(batch.IdBytes(), 10u * 4);
  batch.Release();
  EXPECT_EQ(set_->use_count(), before);
}

}  // namespace
}  // namespace engram
