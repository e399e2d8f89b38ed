// Batches whose rows are not in memory when they are asked for.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/deferred_rows.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.pb.h"
#include "server/lookup/lookup_batch.h"

namespace engram {
namespace {

// Of the small, the narrow and the wide rows' layer.
constexpr uint32_t kLayers[] = {1, 7, 14};
constexpr uint32_t kRowBytes[] = {264, 110, 4096};
constexpr uint64_t kRows[] = {5000, 4100, 300};

// What is asked of a layer, by its place in kLayers.
struct Asked {
  size_t at;
  std::vector<uint64_t> ids;
  bool wide = false;
};

Asked Some(size_t at, size_t count, bool wide = false) {
  Asked asked{.at = at, .ids = {}, .wide = wide};
  for (size_t i = 0; i < count; ++i) asked.ids.push_back((i * 37 + 11) % kRows[at]);
  return asked;
}

// Tasks run when the test says so, on its own thread.
class ManualExecutor final : public Executor {
 public:
  void Post(std::function<void()> task) override { tasks_.push_back(std::move(task)); }
  void Run() {
    for (const std::function<void()>& task : std::exchange(tasks_, {})) task();
  }

 private:
  std::vector<std::function<void()>> tasks_;
};

class DeferredBatchTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new std::string(absl::StrCat(::testing::TempDir(), "/deferred_batch_set"));
    testing::SmallTableSet small;
    small.layers.clear();
    for (size_t i = 0; i < 3; ++i) {
      small.layers.push_back({.layer = kLayers[i], .row_bytes = kRowBytes[i], .rows = kRows[i]});
    }
    ASSERT_TRUE(testing::WriteSmallTableSet(small, *directory_).ok());
    team_ = GatherTeam::Create(2, "test").value().release();
  }
  static void TearDownTestSuite() {
    delete team_;
    delete directory_;
  }

  void Load(std::vector<HeldLayer> held = {}) {
    LoadOptions options;
    options.make_row_source = [this, held](std::vector<GatherTable> tables) {
      return deferred_.MakeSource(std::move(tables), held);
    };
    auto set = TableSet::Load(*directory_, options);
    ASSERT_TRUE(set.ok()) << set.status();
    id_ = (*set)->id();
    ASSERT_TRUE(registry_.Publish(*std::move(set)).ok());
  }
  absl::Status Prepare(const std::vector<Asked>& asked) {
    v1::LookupRequest request;
    request.set_table_set_id(id_);
    request.set_batch_id(300);
    for (const Asked& one : asked) {
      v1::LayerRowIds* layer = request.add_layers();
      layer->set_layer(kLayers[one.at]);
      for (const uint64_t id : one.ids) {
        one.wide ? layer->add_row_ids64(id) : layer->add_row_ids32(static_cast<uint32_t>(id));
      }
    }
    const std::string bytes = request.SerializeAsString();
    const wire::Bytes chain[] = {{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
    absl::Status status = batch_.Parse(chain, MonotonicTime());
    if (!status.ok()) return status;
    return batch_.Prepare(registry_, {.max_batch_rows = 1 << 20, .max_reply_bytes = 0});
  }
  static v1::LookupResponse Parsed(absl::Span<const std::byte> message) {
    v1::LookupResponse response;
    EXPECT_TRUE(response.ParseFromArray(message.data(), static_cast<int>(message.size())));
    return response;
  }
  static void ExpectRows(const Asked& asked, uint64_t first, const std::string& rows) {
    const uint32_t row_bytes = kRowBytes[asked.at];
    ASSERT_LE(first + rows.size() / row_bytes, asked.ids.size());
    const auto* at = reinterpret_cast<const std::byte*>(rows.data());
    for (size_t i = 0; i < rows.size() / row_bytes; ++i, at += row_bytes) {
      ASSERT_TRUE(IsSyntheticRow(kLayers[asked.at], asked.ids[first + i], {at, row_bytes}))
          << "row " << first + i << " of layer " << kLayers[asked.at];
    }
  }
  RowSource::Done Note() {
    return [this](absl::Status status) { told_.push_back(std::move(status)); };
  }

  static inline std::string* directory_ = nullptr;
  static inline GatherTeam* team_ = nullptr;
  testing::Deferred deferred_;
  TableSetRegistry registry_;
  std::string id_;
  LookupBatch batch_;
  const std::shared_ptr<ManualExecutor> executor_ = std::make_shared<ManualExecutor>();
  std::vector<absl::Status> told_;
};

TEST_F(DeferredBatchTest, AMessageIsFilledOnceItsRowsHaveCome) {
  Load();
  const std::vector<Asked> asked = {Some(0, 70), Some(1, 50, /*wide=*/true), Some(2, 6)};
  ASSERT_TRUE(Prepare(asked).ok());
  std::vector<std::byte> slab(64 << 10);
  size_t messages = 0;
  std::vector<uint64_t> rows(asked.size());
  for (; !batch_.done(); ++messages) {
    const uint64_t left = batch_.RowsLeftBytes();
    const auto when = batch_.BeginMessage(8192, executor_, Note());
    ASSERT_TRUE(when.ok()) << when.status();
    EXPECT_EQ(*when, RowSource::When::kLater);
    executor_->Run();
    EXPECT_FALSE(batch_.rows_present());
    deferred_.Complete();
    EXPECT_FALSE(batch_.rows_present()) << "it is told on its executor's thread";
    executor_->Run();
    ASSERT_TRUE(batch_.rows_present());
    ASSERT_EQ(told_.size(), messages + 1);
    EXPECT_TRUE(told_.back().ok());
    EXPECT_EQ(batch_.RowsLeftBytes(), left) << "nothing was gathered yet";
    EXPECT_EQ(deferred_.pinned(), 1u);
    const auto response = Parsed(batch_.FillMessage(*team_, absl::MakeSpan(slab)));
    EXPECT_EQ(deferred_.pinned(), 0u) << "what was filled is pinned no more";
    EXPECT_EQ(response.last(), batch_.done());
    for (const v1::LayerRowData& run : response.layers()) {
      const size_t at = run.layer() == 1 ? 0 : run.layer() == 7 ? 1 : 2;
      EXPECT_EQ(run.first_row(), rows[at]);
      ExpectRows(asked[at], run.first_row(), run.rows());
      rows[at] += run.rows().size() / kRowBytes[at];
    }
  }
  EXPECT_GT(messages, 3u);
  for (size_t i = 0; i < asked.size(); ++i) EXPECT_EQ(rows[i], asked[i].ids.size());
}

TEST_F(DeferredBatchTest, AUnaryReplyIsFilledOnceAllItsRowsHaveCome) {
  Load();
  const std::vector<Asked> asked = {Some(1, 90), Some(2, 20), Some(0, 300)};
  ASSERT_TRUE(Prepare(asked).ok());
  const auto when = batch_.BeginReply(executor_, Note());
  ASSERT_TRUE(when.ok()) << when.status();
  EXPECT_EQ(*when, RowSource::When::kLater);
  deferred_.Complete();
  executor_->Run();
  ASSERT_TRUE(batch_.rows_present());
  std::string message;
  std::vector<std::byte> slab(20'000);
  while (!batch_.done()) {
    const absl::Span<std::byte> part = batch_.FillPart(*team_, absl::MakeSpan(slab));
    message.append(reinterpret_cast<const char*>(part.data()), part.size());
  }
  const auto response =
      Parsed({reinterpret_cast<const std::byte*>(message.data()), message.size()});
  ASSERT_EQ(response.layers_size(), 3);
  for (int i = 0; i < 3; ++i) ExpectRows(asked[i], 0, response.layers(i).rows());
  EXPECT_EQ(deferred_.pinned(), 1u);
  batch_.Release();
  EXPECT_EQ(deferred_.pinned(), 0u);
}

TEST_F(DeferredBatchTest, WhatIsLetGoOfIsToldNothing) {
  Load();
  ASSERT_TRUE(Prepare({Some(0, 10)}).ok());
  ASSERT_TRUE(batch_.BeginMessage(8192, executor_, Note()).ok());
  deferred_.Complete();
  batch_.Release();  // between the rows' coming and the executor's task
  executor_->Run();
  EXPECT_TRUE(told_.empty());
  EXPECT_FALSE(batch_.rows_present());
  EXPECT_EQ(deferred_.pinned(), 0u);
}

TEST_F(DeferredBatchTest, ARowThatDoesNotComeIsToldWithItsReason) {
  Load();
  ASSERT_TRUE(Prepare({Some(0, 10)}).ok());
  ASSERT_TRUE(batch_.BeginMessage(8192, executor_, Note()).ok());
  deferred_.Fail(absl::DataLossError("damaged"));
  executor_->Run();
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_EQ(told_[0], absl::DataLossError("damaged"));
  EXPECT_FALSE(batch_.rows_present());
  deferred_.Refuse(absl::ResourceExhaustedError("no room"));
  EXPECT_EQ(batch_.BeginMessage(8192, executor_, Note()).status(),
            absl::ResourceExhaustedError("no room"));
  EXPECT_FALSE(batch_.rows_present());
}

TEST_F(DeferredBatchTest, RowsThatAreNotHeldAreRefusedByName) {
  Load({{.table_rows = 5000, .ranges = {{0, 100}, {4000, 1000}}},
        {.table_rows = 4100, .ranges = {{0, 4100}}},
        {.table_rows = 300, .ranges = {}}});
  EXPECT_TRUE(Prepare({{.at = 0, .ids = {0, 99, 4000, 4999}}, Some(1, 10)}).ok());
  for (const bool wide : {false, true}) {
    const absl::Status status = Prepare({{.at = 0, .ids = {99, 100}, .wide = wide}});
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_NE(status.message().find("layer 1: row 100 (index 1) is not held here"),
              absl::string_view::npos)
        << status;
    EXPECT_NE(status.message().find("[0, 100), [4000, 5000)"), absl::string_view::npos) << status;
  }
  EXPECT_EQ(Prepare({Some(2, 1)}).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace engram
