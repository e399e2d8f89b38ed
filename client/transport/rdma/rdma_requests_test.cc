#include "client/transport/rdma/rdma_requests.h"

#include <algorithm>
#include <utility>

#include "client/transport/rdma/rdma_send_queue.h"
#include "client/transport/ticketed_transport.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

// Opens batches of so many layers, a row each, and does to their tickets what it is told.
class Tickets final : public TicketedTransport, public RdmaTickets {
 public:
  Tickets() : TicketedTransport({.reap_patience = absl::ZeroDuration()}) {
    attached_.manifest.scheme.max_order = 2;
    attached_.manifest.scheme.heads_per_order = 1;
    for (uint32_t i = 0; i < kRdmaRequestLayers; ++i) {
      attached_.manifest.layers.push_back(
          {.layer = i, .rows = 10, .row_bytes = 8, .encoding = {}, .shards = {}});
    }
  }
  ~Tickets() override { ReapAll(); }

  RdmaBatch* Open(uint32_t layers) {
    std::vector<LayerRequest> wanted;
    static constexpr RowId kRow = 3;
    for (uint32_t i = 0; i < layers; ++i) {
      wanted.push_back(
          {.layer = i, .row_ids = {&kRow, 1}, .landing = {.data = memory_ + size_t{8} * i}});
    }
    EXPECT_TRUE(Submit({.layers = wanted}).ok());
    return opened_;
  }
  absl::Status StatusOf(const RdmaBatch* batch) { return Wait(batch->ticket()); }

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attached_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }

  void OnPosted(RdmaBatch& batch) override {
    TicketLock lock(*this);
    EXPECT_TRUE(BeginWrite(batch));
  }
  void OnAnswered(RdmaBatch& batch) override {
    TicketLock lock(*this);
    EndWrite(batch);
  }
  void OnLayerLanded(RdmaBatch& batch, size_t place) override {
    TicketLock lock(*this);
    LandLayer(batch, place);
  }
  void OnFailed(RdmaBatch& batch, absl::Status why) override {
    TicketLock lock(*this);
    Fail(batch, std::move(why));
  }

 private:
  absl::Status Prepare(const BatchRequest&) override { return absl::OkStatus(); }
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<RdmaBatch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override {
    opened_ = static_cast<RdmaBatch*>(&batch);
    return opened_->Take(request, attached_.manifest,
                         [](const std::byte*, uint64_t) { return RdmaLandingPlace{}; });
  }
  void StopWriters(TicketedBatch& batch) override {
    TicketLock lock(*this);
    EndAllWrites(batch);
  }

  const Capabilities capabilities_{
      .name = "test", .lands_asynchronously = true, .max_batch_rows = 100};
  AttachedTableSet attached_;
  std::byte memory_[8 * kRdmaRequestLayers] = {};
  RdmaBatch* opened_ = nullptr;
};

class RdmaRequestsTest : public ::testing::Test {
 protected:
  RdmaBatch* NewBatch(uint32_t layers) { return tickets_.Open(layers); }
  // Sends the whole of the batch, which is one request.
  RdmaTag Send(RdmaBatch* batch) {
    const RdmaTag tag = requests_.NextTag();
    const RdmaBatch::Request request = batch->WriteNext(tag, MonotonicTime(), buffer_);
    tickets_.OnPosted(*batch);
    requests_.Sent(request, batch);
    return tag;
  }
  absl::Status Land(RdmaTag tag, uint8_t layer) {
    return requests_.TakeImmediate(RdmaImmediate(tag, layer), tickets_);
  }
  absl::Status Refuse(RdmaTag tag, const absl::Status& why) {
    const RdmaRefusal refusal = MakeRdmaRefusal(RdmaImmediate(tag, kRdmaAllLayers), why);
    return requests_.TakeRefusal({reinterpret_cast<const std::byte*>(&refusal), sizeof(refusal)},
                                 tickets_);
  }

  Tickets tickets_;
  RdmaRequests requests_;
  alignas(8) std::byte buffer_[kRdmaRequestBytes];
};

TEST_F(RdmaRequestsTest, LayersLandOneByOneOrAllTogether) {
  RdmaBatch* const one = NewBatch(2);
  RdmaBatch* const other = NewBatch(2);
  const RdmaTag first = Send(one), second = Send(other);
  EXPECT_TRUE(Land(first, 1).ok());
  EXPECT_TRUE(one->HasLanded(1));
  EXPECT_FALSE(one->HasLanded(0));
  EXPECT_EQ(one->writers(), 1u);
  EXPECT_TRUE(Land(second, kRdmaAllLayers).ok());
  EXPECT_EQ(other->state(), TicketState::kLanded);
  EXPECT_EQ(other->writers(), 0u);
  EXPECT_EQ(one->state(), TicketState::kInFlight);
  EXPECT_TRUE(Land(first, 0).ok());
  EXPECT_EQ(one->state(), TicketState::kLanded);
}

TEST_F(RdmaRequestsTest, ACompletionThatComesLateGivesTheSlotBackAndChangesNothing) {
  RdmaBatch* const batch = NewBatch(1);
  const RdmaTag tag = Send(batch);
  tickets_.OnFailed(*batch, absl::CancelledError("the batch was cancelled"));
  EXPECT_EQ(batch->writers(), 1u);  // the owner may still write
  EXPECT_TRUE(Land(tag, 0).ok());
  EXPECT_EQ(batch->writers(), 0u);
  EXPECT_EQ(batch->state(), TicketState::kFailedLent);
  EXPECT_EQ(tickets_.StatusOf(batch).code(), absl::StatusCode::kCancelled);
  // So does a refusal: the first reason stays.
  RdmaBatch* const refused = NewBatch(1);
  const RdmaTag again = Send(refused);
  tickets_.OnFailed(*refused, absl::DeadlineExceededError("late"));
  EXPECT_TRUE(Refuse(again, absl::UnavailableError("engramd is stopping")).ok());
  EXPECT_EQ(refused->writers(), 0u);
  EXPECT_EQ(tickets_.StatusOf(refused).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RdmaRequestsTest, ARefusalFailsTheBatchWithItsReason) {
  RdmaBatch* const batch = NewBatch(2);
  const RdmaTag tag = Send(batch);
  EXPECT_TRUE(Land(tag, 0).ok());
  EXPECT_TRUE(Refuse(tag, absl::UnavailableError("engramd is stopping")).ok());
  EXPECT_EQ(batch->state(), TicketState::kFailedLent);
  EXPECT_EQ(tickets_.StatusOf(batch).message(), "engramd is stopping");
  EXPECT_EQ(batch->writers(), 0u);
}

TEST_F(RdmaRequestsTest, AnswersToWhatWasNotAskedAreErrors) {
  const auto is_wrong = [](const absl::Status& status) {
    return status.code() == absl::StatusCode::kInternal;
  };
  EXPECT_TRUE(is_wrong(requests_.TakeImmediate(0, tickets_)));  // nothing is under way
  EXPECT_TRUE(is_wrong(Land({200, 1}, 0)));
  EXPECT_TRUE(is_wrong(Refuse({200, 1}, absl::UnavailableError(""))));
  RdmaBatch* const batch = NewBatch(2);
  const RdmaTag tag = Send(batch);
  const RdmaTag stale{tag.slot, static_cast<uint16_t>(tag.generation - 1)};
  EXPECT_TRUE(is_wrong(Land(stale, 0)));
  EXPECT_TRUE(is_wrong(Refuse(stale, absl::UnavailableError(""))));
  EXPECT_TRUE(is_wrong(Land(tag, 2)));
  EXPECT_TRUE(is_wrong(Land(tag, 32)));
  EXPECT_TRUE(is_wrong(requests_.TakeRefusal({buffer_, sizeof(buffer_)}, tickets_)));
  EXPECT_TRUE(Land(tag, 0).ok());
  EXPECT_TRUE(is_wrong(Land(tag, 0)));
  EXPECT_TRUE(is_wrong(Land(tag, kRdmaAllLayers)));
  EXPECT_EQ(batch->state(), TicketState::kInFlight);  // whoever saw the error cuts the connection
  EXPECT_EQ(batch->writers(), 1u);
}

TEST_F(RdmaRequestsTest, ThereAreAsManySlotsAsCreditsAndEachComesBack) {
  std::vector<RdmaBatch*> sent;
  std::vector<RdmaTag> tags;
  for (uint32_t i = 0; i < kRdmaCredits; ++i) {
    ASSERT_TRUE(requests_.HasRoom());
    sent.push_back(NewBatch(1));
    tags.push_back(Send(sent.back()));
  }
  EXPECT_FALSE(requests_.HasRoom());
  EXPECT_TRUE(Land(tags[5], 0).ok());
  ASSERT_TRUE(requests_.HasRoom());
  const RdmaTag next = Send(NewBatch(1));
  EXPECT_EQ(next.slot, tags[5].slot);
  EXPECT_NE(next.generation, tags[5].generation);
  std::vector<RdmaBatch*> forgotten;
  requests_.ForgetAll(&forgotten);
  EXPECT_EQ(forgotten.size(), kRdmaCredits);
  EXPECT_EQ(std::count(forgotten.begin(), forgotten.end(), sent[5]), 0);
  EXPECT_EQ(std::count(forgotten.begin(), forgotten.end(), sent[6]), 1);
  EXPECT_TRUE(requests_.HasRoom());
  EXPECT_FALSE(Land(tags[6], 0).ok());
  for (uint32_t i = 0; i < kRdmaCredits; ++i) Send(NewBatch(1));
  EXPECT_FALSE(requests_.HasRoom());
}

TEST_F(RdmaRequestsTest, TheOldestBatchWithSomethingToSendIsNext) {
  RdmaSendQueue queue(8);
  std::vector<RdmaBatch*> batches;
  for (int i = 0; i < 4; ++i) {
    batches.push_back(NewBatch(1));
    queue.Add(batches.back());
  }
  EXPECT_EQ(queue.Next(), batches[0]);
  EXPECT_EQ(queue.Next(), batches[0]);
  Send(batches[0]);  // all of it is written
  EXPECT_EQ(queue.Next(), batches[1]);
  tickets_.OnFailed(*batches[1], absl::CancelledError(""));
  EXPECT_EQ(queue.Next(), batches[2]);
  queue.Remove(batches[2]);
  EXPECT_EQ(queue.Next(), batches[3]);
  std::vector<RdmaBatch*> rest;
  queue.MoveTo(&rest);
  EXPECT_EQ(rest.size(), 1u);
  EXPECT_EQ(queue.Next(), nullptr);
}

}  // namespace
}  // namespace engram
