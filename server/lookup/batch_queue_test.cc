#include "server/lookup/batch_queue.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "proto/wire/lookup_messages.h"
#include "server/lookup/fair_scheduler.h"

namespace engram {
namespace {

constexpr MonotonicTime kNow = MonotonicTime::FromNanoseconds(1000000);
constexpr uint32_t kRowBytes = 264;
// Messages of four rows and what frames them.
constexpr uint64_t kMessageBytes = uint64_t{5} * kRowBytes;
constexpr uint64_t kSmall = 3;
constexpr uint64_t kLarge = 12;

class BatchQueueTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string directory = absl::StrCat(::testing::TempDir(), "/batch_queue_set");
    ASSERT_TRUE(testing::WriteSmallTableSet({}, directory).ok());
    auto set = TableSet::Load(directory, {});
    ASSERT_TRUE(set.ok()) << set.status();
    id_ = new std::string((*set)->id());
    registry_ = new TableSetRegistry;
    ASSERT_TRUE(registry_->Publish(*std::move(set)).ok());
    team_ = GatherTeam::Create(1, "test").value().release();
  }
  static void TearDownTestSuite() {
    delete team_;
    delete registry_;
    delete id_;
  }

  // A batch of so many rows; without a deadline where `timeout_us` is 0.
  static BatchQueue::Batch Make(uint64_t batch_id, uint64_t rows, uint64_t timeout_us = 0) {
    BatchQueue::Batch batch = MakeWithoutRows(batch_id, rows, timeout_us);
    Begin(*batch);
    return batch;
  }
  static void Begin(LookupBatch& batch) {
    const auto when =
        batch.BeginMessage(uint64_t{4} * kRowBytes, nullptr, [](const absl::Status&) {});
    EXPECT_TRUE(when.ok() && batch.rows_present());
  }
  // Its rows were not asked for, as those that do not come at once are not there yet.
  static BatchQueue::Batch MakeWithoutRows(uint64_t batch_id, uint64_t rows,
                                           uint64_t timeout_us = 0) {
    std::vector<uint64_t> ids;
    for (uint64_t i = 0; i < rows; ++i) ids.push_back(i);
    const wire::RequestHead head = {
        .table_set_id = *id_, .batch_id = batch_id, .timeout_us = timeout_us, .cancel = false};
    const wire::RequestLayer layer = {.layer = 1, .wide = false, .ids = ids};
    std::vector<uint8_t> bytes(wire::RequestHeadBytes(head) + wire::RequestLayerBytes(layer));
    wire::WriteRequestLayer(layer, wire::WriteRequestHead(head, bytes.data()));
    auto batch = std::make_unique<LookupBatch>();
    const wire::Bytes chain[] = {bytes};
    EXPECT_TRUE(batch->Parse(chain, kNow).ok());
    const absl::Status status =
        batch->Prepare(*registry_, {.max_batch_rows = 1000, .max_reply_bytes = 0});
    EXPECT_TRUE(status.ok()) << status;
    return batch;
  }
  // Gathers the next message; which batch's it was.
  static uint64_t GatherNext(BatchQueue& queue, bool* done = nullptr) {
    std::vector<std::byte> slab(2 * kMessageBytes);
    LookupBatch* const batch = queue.Next();
    if (batch == nullptr) return 0;
    const uint64_t id = batch->batch_id();
    batch->FillMessage(*team_, absl::MakeSpan(slab));
    const BatchQueue::Batch whole = queue.Gathered(*batch);
    if (whole == nullptr) Begin(*batch);
    if (done != nullptr) *done = whole != nullptr;
    return id;
  }

  static inline std::string* id_ = nullptr;
  static inline TableSetRegistry* registry_ = nullptr;
  static inline GatherTeam* team_ = nullptr;
  BatchQueue queue_{kMessageBytes};
};

TEST_F(BatchQueueTest, SmallAndLargeTakeTurnsEachInTheOrderInWhichTheyCame) {
  queue_.Add(Make(10, kLarge));
  queue_.Add(Make(11, kLarge));
  queue_.Add(Make(1, kSmall));
  queue_.Add(Make(2, kSmall));
  EXPECT_EQ(queue_.size(), 4u);
  std::vector<uint64_t> order;
  while (const uint64_t id = GatherNext(queue_)) order.push_back(id);
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 10, 2, 10, 10, 11, 11, 11}));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(BatchQueueTest, ALargeBatchWaitsForOneSmallOneAtATime) {
  queue_.Add(Make(10, kLarge));
  std::vector<uint64_t> order;
  for (uint64_t id = 1; id <= 3; ++id) {
    queue_.Add(Make(id, kSmall));
    order.push_back(GatherNext(queue_));
    order.push_back(GatherNext(queue_));
  }
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 10, 2, 10, 3, 10}));
}

TEST_F(BatchQueueTest, ABatchComesBackWithItsLastMessage) {
  queue_.Add(Make(10, kLarge));
  bool done = true;
  for (int message = 0; message < 2; ++message) {
    EXPECT_EQ(GatherNext(queue_, &done), 10u);
    EXPECT_FALSE(done);
    EXPECT_TRUE(queue_.Has(10));
  }
  EXPECT_EQ(GatherNext(queue_, &done), 10u);
  EXPECT_TRUE(done);
  EXPECT_FALSE(queue_.Has(10));
  EXPECT_EQ(queue_.Next(), nullptr);
}

TEST_F(BatchQueueTest, WhatIsTakenOutIsGatheredNoMore) {
  queue_.Add(Make(1, kSmall));
  queue_.Add(Make(2, kSmall));
  queue_.Add(Make(10, kLarge));
  EXPECT_EQ(queue_.TakeOut(3), nullptr);
  EXPECT_EQ(queue_.TakeOut(1)->batch_id(), 1u);
  EXPECT_EQ(queue_.TakeOut(1), nullptr);
  EXPECT_EQ(GatherNext(queue_), 2u);
  EXPECT_EQ(GatherNext(queue_), 10u);
  EXPECT_EQ(queue_.TakeOut(10)->batch_id(), 10u);
  EXPECT_TRUE(queue_.empty());
  queue_.Add(Make(4, kSmall));
  queue_.Add(Make(11, kLarge));
  EXPECT_EQ(queue_.TakeAll().size(), 2u);
  EXPECT_TRUE(queue_.empty());
}

TEST_F(BatchQueueTest, ABatchExpiresAtItsDeadlineAndNotBefore) {
  queue_.Add(Make(1, kSmall, 1000000));
  queue_.Add(Make(10, kLarge, 2000000));
  queue_.Add(Make(2, kSmall));
  const MonotonicTime deadline = kNow + absl::Seconds(2);
  const absl::Duration tick = absl::Nanoseconds(1);
  std::vector<BatchQueue::Batch> expired = queue_.TakeExpired(deadline - tick);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0]->batch_id(), 1u);
  expired = queue_.TakeExpired(deadline);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0]->batch_id(), 10u);
  EXPECT_TRUE(queue_.TakeExpired(deadline + absl::Hours(1)).empty());
  EXPECT_TRUE(queue_.Has(2));
}

TEST_F(BatchQueueTest, WorkAheadOfASmallBatchIsOneMessageOfTheLargeOnesForEachSmallOne) {
  const auto work = [](uint64_t rows) { return FairScheduler::Work(rows * kRowBytes); };
  const BatchQueue::Batch small = Make(20, kSmall);
  const BatchQueue::Batch large = Make(21, kLarge);
  EXPECT_EQ(queue_.WorkAhead(*small), 0u);
  queue_.Add(Make(1, kSmall));
  EXPECT_EQ(queue_.WorkAhead(*small), work(kSmall));
  queue_.Add(Make(10, 1000));
  EXPECT_EQ(queue_.WorkAhead(*small), work(kSmall) + 2 * FairScheduler::Work(kMessageBytes));
  EXPECT_EQ(queue_.WorkAhead(*large), work(kSmall) + work(1000));
  GatherNext(queue_);
  GatherNext(queue_);
  EXPECT_EQ(queue_.WorkAhead(*large), work(1000 - 4)) << "what was gathered is not ahead";
}

TEST_F(BatchQueueTest, ABatchWhoseRowsAreNotThereIsPassedBy) {
  BatchQueue::Batch small = MakeWithoutRows(1, kSmall);
  BatchQueue::Batch large = MakeWithoutRows(10, kLarge);
  LookupBatch& small_rows = *small;
  LookupBatch& large_rows = *large;
  queue_.Add(std::move(small));
  queue_.Add(std::move(large));
  EXPECT_EQ(queue_.Next(), nullptr);
  EXPECT_FALSE(queue_.empty());
  queue_.Add(Make(2, kSmall));
  queue_.Add(Make(11, kLarge));
  EXPECT_EQ(GatherNext(queue_), 2u);
  EXPECT_EQ(GatherNext(queue_), 11u);
  EXPECT_EQ(GatherNext(queue_), 11u);
  Begin(large_rows);
  EXPECT_EQ(GatherNext(queue_), 10u) << "it came before";
  Begin(small_rows);
  bool done = false;
  EXPECT_EQ(GatherNext(queue_, &done), 1u);
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace engram
