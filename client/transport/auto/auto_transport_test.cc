// The change from one way to another, over ways that fail as a test says.
#include "client/transport/auto/auto_transport.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/transport/grpc/testing/fake_lookup_server.h"
#include "client/transport/local/embedded_transport.h"
#include "client/transport/testing/fault_transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using testing::FakeLookupServer;
using testing::Fate;
using testing::FaultTransport;
using ::testing::HasSubstr;

const absl::Status kGone = absl::UnavailableError("the owner is gone");

class Recorder final : public CompletionSink {
 public:
  void OnLayerLanded(uint64_t, size_t index) override { told.push_back(std::to_string(index)); }
  void OnTicketEnded(uint64_t, const absl::Status& status) override {
    told.push_back(absl::StatusCodeToString(status.code()));
  }
  std::vector<std::string> told;
};

class AutoTransportTest : public ::testing::Test {
 protected:
  AutoTransportTest() {
    const std::string directory = ::testing::TempDir() + "/auto_transport_test";
    testing::WriteSmallTableSet({.layers = {{.layer = 1}, {.layer = 4}}}, directory).value();
    set_ = TableSet::Load(directory, {}).value();
    for (const LayerTableSpec& layer : set_->manifest().layers) {
      rows_.emplace_back(ids_.size() * layer.row_bytes);
    }
    for (size_t i = 0; i < rows_.size(); ++i) {
      layers_.push_back({.layer = set_->manifest().layers[i].layer,
                         .row_ids = ids_,
                         .landing = {.data = rows_[i].data()}});
    }
  }
  // The first way does with each batch what `fate` says; the other one lands all.
  void Make(Fate fate) {
    auto first = std::make_unique<FaultTransport>(EmbeddedTransport::Over(set_),
                                                  [fate](uint64_t) { return fate; });
    auto second = std::make_unique<FaultTransport>(EmbeddedTransport::Over(set_),
                                                   [](uint64_t) { return Fate{}; });
    first_ = first.get();
    second_ = second.get();
    transport_ = std::make_unique<AutoTransport>(std::move(first), std::move(second), "");
  }
  BatchRequest Batch(CompletionSink* sink = nullptr) const {
    return {.layers = layers_, .sink = sink};
  }
  void ExpectRows() const {
    for (size_t i = 0; i < rows_.size(); ++i) {
      const size_t bytes = set_->manifest().layers[i].row_bytes;
      for (size_t row = 0; row < ids_.size(); ++row) {
        EXPECT_TRUE(IsSyntheticRow(layers_[i].layer, ids_[row], {&rows_[i][row * bytes], bytes}));
      }
    }
  }

  std::shared_ptr<const TableSet> set_;
  const std::vector<RowId> ids_ = {4, 0, 17, 17};
  std::vector<std::vector<std::byte>> rows_;
  std::vector<LayerRequest> layers_;
  FaultTransport* first_ = nullptr;
  FaultTransport* second_ = nullptr;
  std::unique_ptr<AutoTransport> transport_;
};

TEST_F(AutoTransportTest, TakesTheFirstWayWhileItIsThere) {
  Make({});
  const Ticket ticket = transport_->Submit(Batch()).value();
  EXPECT_TRUE(transport_->WaitLayer(ticket, 0).ok());
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kLanded);
  transport_->Reap(ticket);
  ExpectRows();
  EXPECT_TRUE(second_->order().empty());
}

TEST_F(AutoTransportTest, AsksTheOtherWayForWhatHadNotLanded) {
  Make({.error = kGone, .failing_layer = 1});
  Recorder sink;
  const Ticket ticket = transport_->Submit(Batch(&sink)).value();
  EXPECT_TRUE(transport_->WaitLayer(ticket, 0).ok());
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  transport_->Reap(ticket);
  ExpectRows();
  // A layer that landed is left alone: its reader may be at work in place.
  EXPECT_THAT(second_->order(), ElementsAre(layers_[1].layer));
  EXPECT_THAT(sink.told, ElementsAre("0", "1", "OK"));
  EXPECT_THAT(transport_->Describe(), HasSubstr("left fault: the owner is gone"));
  // So do all that follow.
  const Ticket next = transport_->Submit(Batch()).value();
  EXPECT_TRUE(transport_->Wait(next).ok());
  EXPECT_EQ(second_->order().size(), 1 + layers_.size());
}

TEST_F(AutoTransportTest, AnotherErrorIsTheBatchsOwn) {
  Make({.error = absl::DataLossError("fenced"), .failing_layer = 0});
  Recorder sink;
  const Ticket ticket = transport_->Submit(Batch(&sink)).value();
  EXPECT_EQ(transport_->Wait(ticket).message(), "fenced");
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kFailedLent);
  transport_->Reap(ticket);
  EXPECT_THAT(sink.told, ElementsAre("DATA_LOSS"));
  EXPECT_TRUE(second_->order().empty());
}

TEST_F(AutoTransportTest, AWayThatRefusesABatchIsLeftAtOnce) {
  Make({.submit = kGone});
  const Ticket ticket = transport_->Submit(Batch()).value();
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  transport_->Reap(ticket);
  ExpectRows();
}

TEST_F(AutoTransportTest, AttachesOnceWhicheverWaysItTries) {
  FakeLookupServer server(set_->manifest());
  const auto transport = AutoTransport::Attach(server.address(), "", {});
  ASSERT_TRUE(transport.ok()) << transport.status();
  EXPECT_THAT((*transport)->Describe(), HasSubstr("auto took grpc"));
  EXPECT_THAT((*transport)->Describe(), HasSubstr("no rdma"));
  EXPECT_EQ(server.attaches(), 1);
}

TEST_F(AutoTransportTest, NothingIsWrittenOnceABatchIsReaped) {
  Make({.delay = absl::Hours(1)});
  const Ticket ticket = transport_->Submit(Batch()).value();
  transport_->Cancel(ticket);
  EXPECT_EQ(transport_->Wait(ticket).code(), absl::StatusCode::kCancelled);
  transport_->Reap(ticket);
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kReaped);
  EXPECT_TRUE(first_->order().empty());
}

}  // namespace
}  // namespace engram
