// Layers whose slice has no columns: landed at once, under every transport that lands later.
#include <string>
#include <vector>

#include "client/transport/ticketed_transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Lands what it is told to.
class OneByOne final : public TicketedTransport {
 public:
  OneByOne() : TicketedTransport({}) {}
  ~OneByOne() override { ReapAll(); }
  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return table_set_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Prepare(const BatchRequest&) override { return absl::OkStatus(); }
  absl::Status Start(const BatchRequest&, TicketedBatch& batch) override {
    ++starts;
    for (size_t i = 0; i < batch.layers(); ++i) {
      if (!batch.LayerLanded(i)) missing.push_back(i);
    }
    last = TicketRef<TicketedBatch>(&batch);
    return start;
  }
  void Land(size_t layer) {
    TicketLock lock(*this);
    LandLayer(*last, layer);
  }

  int starts = 0;
  absl::Status start;
  std::vector<size_t> missing;  // of the batch, when it was started
  TicketRef<TicketedBatch> last;

 private:
  const Capabilities capabilities_ = {
      .name = "one by one", .lands_asynchronously = true, .max_batch_rows = 9};
  const AttachedTableSet table_set_;
};

class Told final : public CompletionSink {
 public:
  void OnLayerLanded(uint64_t, size_t index) override { events.push_back(std::to_string(index)); }
  void OnTicketEnded(uint64_t, const absl::Status& status) override {
    events.push_back(status.ok() ? "ok" : std::string(status.message()));
  }
  std::vector<std::string> events;
};

class EmptyLayersTest : public ::testing::Test {
 protected:
  // A layer for each letter: 'r' has rows, 'e' a slice of no columns.
  absl::StatusOr<Ticket> Submit(const std::string& layers) {
    std::vector<LayerRequest> requests(layers.size());
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i] == 'e') requests[i].slice = &nothing_;
    }
    return transport_.Submit({.layers = requests, .sink = &told_});
  }

  const ColumnSlice nothing_ = ColumnSlice::Create({}, 8).value();
  Told told_;
  OneByOne transport_;
};

TEST_F(EmptyLayersTest, HaveLandedBeforeTheOthersAreAskedFor) {
  const Ticket ticket = Submit("erer").value();
  EXPECT_THAT(transport_.missing, ElementsAre(1, 3));
  EXPECT_TRUE(transport_.WaitLayer(ticket, 0).ok());
  EXPECT_TRUE(transport_.WaitLayer(ticket, 2).ok());
  EXPECT_EQ(transport_.Poll(ticket), TicketState::kInFlight);
  EXPECT_THAT(told_.events, ElementsAre("0", "2"));
  transport_.Land(3);
  transport_.Land(1);
  EXPECT_TRUE(transport_.Wait(ticket).ok());
  EXPECT_THAT(told_.events, ElementsAre("0", "2", "3", "1", "ok"));
  transport_.last = {};
  transport_.Reap(ticket);
}

TEST_F(EmptyLayersTest, ABatchOfNothingElseHasLandedAndIsNotAskedFor) {
  const Ticket ticket = Submit("ee").value();
  EXPECT_EQ(transport_.starts, 0);
  EXPECT_EQ(transport_.Poll(ticket), TicketState::kLanded);
  EXPECT_TRUE(transport_.Wait(ticket).ok());
  EXPECT_THAT(told_.events, ElementsAre("0", "1", "ok"));
  transport_.Reap(ticket);
  EXPECT_EQ(transport_.Poll(ticket), TicketState::kReaped);
}

TEST_F(EmptyLayersTest, NobodyIsToldOfABatchThatIsRefused) {
  transport_.start = absl::UnavailableError("gone");
  EXPECT_FALSE(Submit("er").ok());
  EXPECT_THAT(told_.events, IsEmpty());
}

TEST_F(EmptyLayersTest, ThoseOfTokensGoByTheTokensSlices) {
  const ColumnSlice slices[] = {nothing_, ColumnSlice::All(8)};
  const TokenBatch tokens = {{}, {}, {}, slices};
  const LayerRequest layers[2] = {};
  const Ticket ticket = transport_.Submit({.layers = layers, .tokens = &tokens}).value();
  EXPECT_THAT(transport_.missing, ElementsAre(1));
  transport_.Land(1);
  EXPECT_EQ(transport_.Poll(ticket), TicketState::kLanded);
  transport_.last = {};
  transport_.Reap(ticket);
}

}  // namespace
}  // namespace engram
