#include "client/transport/rdma/rdma_requests.h"

#include <algorithm>
#include <utility>

#include "client/transport/rdma/rdma_send_queue.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

class RdmaRequestsTest : public ::testing::Test {
 protected:
  // A batch of so many layers, a row each.
  std::shared_ptr<RdmaBatch> NewBatch(uint32_t layers) {
    Manifest manifest;
    manifest.scheme.max_order = 2;
    manifest.scheme.heads_per_order = 1;
    std::vector<LayerRequest> wanted;
    static constexpr RowId kRow = 3;
    for (uint32_t i = 0; i < layers; ++i) {
      manifest.layers.push_back(
          {.layer = i, .rows = 10, .row_bytes = 8, .encoding = {}, .shards = {}});
      wanted.push_back(
          {.layer = i, .row_ids = {&kRow, 1}, .landing = {.data = memory_ + size_t{8} * i}});
    }
    auto batch = std::make_shared<RdmaBatch>();
    EXPECT_TRUE(batch
                    ->Take({.layers = wanted}, manifest,
                           [](const std::byte*, uint64_t) { return RdmaLandingPlace{}; })
                    .ok());
    return batch;
  }
  // Sends the whole of the batch, which is one request.
  RdmaTag Send(const std::shared_ptr<RdmaBatch>& batch) {
    const RdmaTag tag = requests_.NextTag();
    requests_.Sent(batch->WriteNext(tag, MonotonicTime(), buffer_), batch);
    return tag;
  }
  absl::Status Refuse(RdmaTag tag, const absl::Status& why) {
    const RdmaRefusal refusal = MakeRdmaRefusal(RdmaImmediate(tag, kRdmaAllLayers), why);
    return requests_.TakeRefusal({reinterpret_cast<const std::byte*>(&refusal), sizeof(refusal)});
  }

  RdmaRequests requests_;
  std::byte memory_[256] = {};
  alignas(8) std::byte buffer_[kRdmaRequestBytes];
};

TEST_F(RdmaRequestsTest, LayersLandOneByOneOrAllTogether) {
  const auto one = NewBatch(2), other = NewBatch(2);
  const RdmaTag first = Send(one), second = Send(other);
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(first, 1)).ok());
  EXPECT_TRUE(one->HasLanded(1));
  EXPECT_FALSE(one->HasLanded(0));
  EXPECT_EQ(one->requests_out, 1u);
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(second, kRdmaAllLayers)).ok());
  EXPECT_EQ(other->state, TicketState::kLanded);
  EXPECT_EQ(other->requests_out, 0u);
  EXPECT_EQ(one->state, TicketState::kInFlight);
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(first, 0)).ok());
  EXPECT_EQ(one->state, TicketState::kLanded);
}

TEST_F(RdmaRequestsTest, ACompletionThatComesLateGivesTheSlotBackAndChangesNothing) {
  const auto batch = NewBatch(1);
  const RdmaTag tag = Send(batch);
  batch->Fail(absl::CancelledError("the batch was cancelled"));
  EXPECT_EQ(batch->requests_out, 1u);  // the owner may still write
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(tag, 0)).ok());
  EXPECT_EQ(batch->requests_out, 0u);
  EXPECT_EQ(batch->state, TicketState::kFailedLent);
  EXPECT_EQ(batch->status.code(), absl::StatusCode::kCancelled);
  // So does a refusal: the first reason stays.
  const auto refused = NewBatch(1);
  const RdmaTag again = Send(refused);
  refused->Fail(absl::DeadlineExceededError("late"));
  EXPECT_TRUE(Refuse(again, absl::UnavailableError("engramd is stopping")).ok());
  EXPECT_EQ(refused->requests_out, 0u);
  EXPECT_EQ(refused->status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RdmaRequestsTest, ARefusalFailsTheBatchWithItsReason) {
  const auto batch = NewBatch(2);
  const RdmaTag tag = Send(batch);
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(tag, 0)).ok());
  EXPECT_TRUE(Refuse(tag, absl::UnavailableError("engramd is stopping")).ok());
  EXPECT_EQ(batch->state, TicketState::kFailedLent);
  EXPECT_EQ(batch->status.message(), "engramd is stopping");
  EXPECT_EQ(batch->requests_out, 0u);
}

TEST_F(RdmaRequestsTest, AnswersToWhatWasNotAskedAreErrors) {
  const auto is_wrong = [](const absl::Status& status) {
    return status.code() == absl::StatusCode::kInternal;
  };
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(0)));  // nothing is under way
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(RdmaImmediate({200, 1}, 0))));
  EXPECT_TRUE(is_wrong(Refuse({200, 1}, absl::UnavailableError(""))));
  const auto batch = NewBatch(2);
  const RdmaTag tag = Send(batch);
  const RdmaTag stale{tag.slot, static_cast<uint16_t>(tag.generation - 1)};
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(RdmaImmediate(stale, 0))));
  EXPECT_TRUE(is_wrong(Refuse(stale, absl::UnavailableError(""))));
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(RdmaImmediate(tag, 2))));
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(RdmaImmediate(tag, 32))));
  EXPECT_TRUE(is_wrong(requests_.TakeRefusal({memory_, sizeof(memory_)})));
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(tag, 0)).ok());
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(RdmaImmediate(tag, 0))));
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(RdmaImmediate(tag, kRdmaAllLayers))));
  EXPECT_EQ(batch->state, TicketState::kInFlight);  // whoever saw the error cuts the connection
  EXPECT_EQ(batch->requests_out, 1u);
}

TEST_F(RdmaRequestsTest, ThereAreAsManySlotsAsCreditsAndEachComesBack) {
  std::vector<std::shared_ptr<RdmaBatch>> sent;
  std::vector<RdmaTag> tags;
  for (uint32_t i = 0; i < kRdmaCredits; ++i) {
    ASSERT_TRUE(requests_.HasRoom());
    sent.push_back(NewBatch(1));
    tags.push_back(Send(sent.back()));
  }
  EXPECT_FALSE(requests_.HasRoom());
  EXPECT_TRUE(requests_.TakeImmediate(RdmaImmediate(tags[5], 0)).ok());
  ASSERT_TRUE(requests_.HasRoom());
  const RdmaTag next = Send(NewBatch(1));
  EXPECT_EQ(next.slot, tags[5].slot);
  EXPECT_NE(next.generation, tags[5].generation);
  std::vector<std::shared_ptr<RdmaBatch>> forgotten;
  requests_.ForgetAll(&forgotten);
  EXPECT_EQ(forgotten.size(), kRdmaCredits);
  EXPECT_EQ(std::count(forgotten.begin(), forgotten.end(), sent[5]), 0);
  EXPECT_EQ(std::count(forgotten.begin(), forgotten.end(), sent[6]), 1);
  EXPECT_TRUE(requests_.HasRoom());
  EXPECT_FALSE(requests_.TakeImmediate(RdmaImmediate(tags[6], 0)).ok());
  for (uint32_t i = 0; i < kRdmaCredits; ++i) Send(NewBatch(1));
  EXPECT_FALSE(requests_.HasRoom());
}

TEST_F(RdmaRequestsTest, TheOldestBatchWithSomethingToSendIsNext) {
  RdmaSendQueue queue(8);
  std::vector<std::shared_ptr<RdmaBatch>> batches;
  for (int i = 0; i < 4; ++i) {
    batches.push_back(NewBatch(1));
    queue.Add(batches.back());
  }
  EXPECT_EQ(queue.Next(), batches[0]);
  EXPECT_EQ(queue.Next(), batches[0]);
  Send(batches[0]);  // all of it is written
  EXPECT_EQ(queue.Next(), batches[1]);
  batches[1]->Fail(absl::CancelledError(""));
  EXPECT_EQ(queue.Next(), batches[2]);
  queue.Remove(batches[2]);
  EXPECT_EQ(queue.Next(), batches[3]);
  std::vector<std::shared_ptr<RdmaBatch>> rest;
  queue.MoveTo(&rest);
  EXPECT_EQ(rest.size(), 1u);
  EXPECT_EQ(queue.Next(), nullptr);
}

}  // namespace
}  // namespace engram
