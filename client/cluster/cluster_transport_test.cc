#include "client/cluster/cluster_transport.h"

#include <algorithm>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/cluster/testing/hand_stores.h"
#include "client/transport/failure_mark.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::HandDirectory;
using testing::HandStore;
using ::testing::HasSubstr;
using testing_cluster::Partitioned;
using testing_cluster::Scheme;

constexpr uint32_t kTokens = 3;

class ClusterTransportTest : public ::testing::Test {
 protected:
  // Stores of `partitions`, `replicas` each, of which none answers by itself.
  void Attach(uint32_t partitions, uint32_t replicas) {
    heard_ = Partitioned(scheme_, partitions, replicas);
    auto directory = std::make_unique<HandDirectory>(heard_);
    directory_ = directory.get();
    AttachedTableSet set;
    set.manifest.id = testing_cluster::kSetId;
    set.manifest.name = "table";
    set.manifest.scheme = scheme_;
    for (const LayerAddressing& layer : scheme_.layers) {
      LayerTableSpec& spec = set.manifest.layers.emplace_back();
      spec.layer = layer.layer;
      spec.rows = layer.Rows();
      spec.row_bytes = testing::kHandRowBytes;
    }
    auto transport = ClusterTransport::Create(
        {.table_set = std::move(set),
         .max_batch_rows = 1 << 20,
         .owner_version = "",
         .directory = std::move(directory),
         .open = [this](const std::string& address) { return Open(address); },
         .driver = QueueDriver::Create(absl::ZeroDuration(), clock_).value(),
         .router = {.client_id = "me", .zone = ""},
         .seed = 1,
         .clock = &clock_});
    ASSERT_TRUE(transport.ok()) << transport.status();
    transport_ = *std::move(transport);
    for (size_t layer = 0; layer < scheme_.layers.size(); ++layer) {
      rows_.emplace_back(size_t{kTokens} * scheme_.Columns() * testing::kHandRowBytes);
      std::vector<RowId>& ids = ids_.emplace_back();
      for (uint32_t t = 0; t < kTokens; ++t) {
        for (uint32_t c = 0; c < scheme_.Columns(); ++c) {
          ids.push_back(scheme_.layers[layer].offsets[c] + 7 * t + c);
        }
      }
    }
  }
  absl::StatusOr<std::unique_ptr<Transport>> Open(const std::string& address) {
    auto store = std::make_unique<HandStore>(clock_);
    MutexLock lock(mutex_);
    stores_[address] = store.get();
    return store;
  }
  HandStore* StoreAt(const std::string& address) {
    MutexLock lock(mutex_);
    const auto found = stores_.find(address);
    return found == stores_.end() ? nullptr : found->second;
  }

  // All layers, [tokens, columns].
  Ticket Submit(MonotonicTime deadline = MonotonicTime::Infinite(), bool in_columns = true) {
    const ColumnSlice all = ColumnSlice::All(scheme_.Columns());
    std::vector<LayerRequest> layers;
    for (size_t i = 0; i < scheme_.layers.size(); ++i) {
      layers.push_back({.layer = scheme_.layers[i].layer,
                        .row_ids = ids_[i],
                        .landing = {.data = rows_[i].data()},
                        .slice = in_columns ? &all : nullptr});
    }
    const auto ticket = transport_->Submit({.layers = layers, .deadline = deadline});
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return ticket.value_or(Ticket());
  }
  bool HasAllRows(size_t layer) {
    for (size_t i = 0; i < ids_[layer].size(); ++i) {
      std::byte row[testing::kHandRowBytes];
      testing::FillRow(scheme_.layers[layer].layer, ids_[layer][i], row);
      if (std::memcmp(row, &rows_[layer][i * sizeof(row)], sizeof(row)) != 0) return false;
    }
    return true;
  }
  void Wipe() {
    for (auto& rows : rows_) std::fill(rows.begin(), rows.end(), std::byte{0});
  }
  bool IsWiped() {
    for (const auto& rows : rows_) {
      if (std::any_of(rows.begin(), rows.end(), [](std::byte b) { return b != std::byte{0}; })) {
        return false;
      }
    }
    return true;
  }
  // The store of the partition that was asked `requests` times, once there is one.
  HandStore& Asked(uint32_t partition, Ticket ticket, size_t requests = 1) {
    while (true) {
      for (const StoreState& store : heard_) {
        if (store.instance_id.substr(0, 2) != "p" + std::to_string(partition)) continue;
        HandStore* const asked = StoreAt(store.address);
        if (asked != nullptr && asked->requests() >= requests) return *asked;
      }
      transport_->Poll(ticket);
    }
  }
  HandStore& OtherThan(HandStore& store, uint32_t partition, Ticket ticket) {
    while (true) {
      for (const StoreState& heard : heard_) {
        if (heard.instance_id.substr(0, 2) != "p" + std::to_string(partition)) continue;
        HandStore* const asked = StoreAt(heard.address);
        if (asked != nullptr && asked != &store && asked->requests() > 0) return *asked;
      }
      transport_->Poll(ticket);
    }
  }
  std::string AddressOf(const HandStore& store) {
    MutexLock lock(mutex_);
    for (const auto& [address, one] : stores_) {
      if (one == &store) return address;
    }
    return "";
  }

  const AddressScheme scheme_ = Scheme();
  FakeClock clock_;
  std::vector<StoreState> heard_;
  std::vector<std::vector<RowId>> ids_;
  std::vector<std::vector<std::byte>> rows_;
  Mutex mutex_;
  std::map<std::string, HandStore*> stores_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Transport> transport_;
  HandDirectory* directory_ = nullptr;
};

absl::Status Broken() {
  absl::Status status = absl::UnavailableError("the connection was lost");
  MarkBroken(&status);
  return status;
}

TEST_F(ClusterTransportTest, PartsInFlightAtOnceLandInTheCallersOrder) {
  Attach(4, 1);
  for (const bool in_columns : {true, false}) {
    Wipe();
    const Ticket ticket = Submit(MonotonicTime::Infinite(), in_columns);
    for (uint32_t p = 0; p < 4; ++p) {
      HandStore& store = Asked(p, ticket, in_columns ? 1 : 2);
      EXPECT_THAT(store.LayersOf(store.requests() - 1), ElementsAre(1, 14));
      EXPECT_EQ(transport_->Poll(ticket), TicketState::kInFlight);
    }
    for (uint32_t p = 0; p < 4; ++p) {
      HandStore& store = Asked(p, ticket);
      EXPECT_TRUE(store.Answer(store.requests() - 1));
    }
    EXPECT_TRUE(transport_->Wait(ticket).ok());
    EXPECT_TRUE(HasAllRows(0) && HasAllRows(1));
    transport_->Reap(ticket);
  }
  EXPECT_EQ(transport_->routing()->landed, 2u);
  EXPECT_EQ(transport_->routing()->first_attempts, 8u);
}

TEST_F(ClusterTransportTest, ALayerLandsOnceEveryPartHasIt) {
  Attach(2, 1);
  const Ticket ticket = Submit();
  HandStore& first = Asked(0, ticket);
  HandStore& second = Asked(1, ticket);
  first.Answer(0);
  second.Answer(0, 1);
  EXPECT_TRUE(transport_->WaitLayer(ticket, 0).ok());
  EXPECT_TRUE(HasAllRows(0));
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kInFlight);
  second.Answer(0);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
}

TEST_F(ClusterTransportTest, ABrokenConnectionsPartsAreAskedForElsewhere) {
  Attach(2, 2);
  const Ticket ticket = Submit();
  HandStore& lost = Asked(0, ticket);
  lost.Answer(0, 1);  // its first layer stays
  lost.FailWith(0, Broken());
  HandStore& other = OtherThan(lost, 0, ticket);
  EXPECT_THAT(other.LayersOf(0), ElementsAre(14));
  other.Answer(0);
  Asked(1, ticket).Answer(0);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows(0) && HasAllRows(1));
  EXPECT_EQ(transport_->routing()->free_resends, 1u);
}

TEST_F(ClusterTransportTest, AStoreThatRefusesAtOnceIsNoLoop) {
  Attach(1, 1);
  const Ticket first = Submit();
  HandStore& store = Asked(0, first);
  store.Refuse(absl::InvalidArgumentError("not like this"));
  const Ticket second = Submit();
  const absl::Status status = transport_->Wait(second);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not like this"));
}

TEST_F(ClusterTransportTest, RowsOfASilentStoreThatLostItsPartAreNotCopied) {
  Attach(1, 2);
  const Ticket ticket = Submit();
  HandStore& silent = Asked(0, ticket);
  clock_.Advance(Router::kSilence);
  HandStore& other = OtherThan(silent, 0, ticket);
  EXPECT_TRUE(other.Answer(0));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows(0) && HasAllRows(1));
  transport_->Reap(ticket);
  Wipe();
  EXPECT_FALSE(silent.Answer(0));
  EXPECT_TRUE(IsWiped());
}

TEST_F(ClusterTransportTest, NothingIsCopiedOnceTheTicketWasReaped) {
  Attach(2, 1);
  const Ticket ticket = Submit();
  HandStore& first = Asked(0, ticket);
  HandStore& second = Asked(1, ticket);
  transport_->Reap(ticket);
  EXPECT_FALSE(first.Answer(0) || second.Answer(0));
  EXPECT_TRUE(IsWiped());
  EXPECT_EQ(first.cancels(), 1u);
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kReaped);
}

TEST_F(ClusterTransportTest, ADeadlineNamesWhatIsMissing) {
  Attach(2, 1);
  const Ticket ticket = Submit(clock_.After(absl::Milliseconds(20)));
  Asked(1, ticket).Answer(0);
  Asked(0, ticket);
  clock_.Advance(absl::Milliseconds(20));
  const absl::Status status = transport_->Wait(ticket);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("p0r0:7300"), HasSubstr("columns")));
  transport_->Reap(ticket);
  Wipe();
  EXPECT_FALSE(Asked(0, ticket).Answer(0));
  EXPECT_TRUE(IsWiped());
}

TEST_F(ClusterTransportTest, RowsWithoutAReplicaWaitForOne) {
  Attach(2, 1);
  directory_->Say({heard_[0]});
  const Ticket ticket = Submit();
  Asked(0, ticket).Answer(0);
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kInFlight);
  EXPECT_EQ(StoreAt(heard_[1].address), nullptr);
  directory_->Say(heard_);
  Asked(1, ticket).Answer(0);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows(0) && HasAllRows(1));
}

class CutAnewTest : public ClusterTransportTest {
 protected:
  // Of two stores one has answered when four others have the set.
  void Run(bool in_columns) {
    Attach(2, 1);
    const Ticket ticket = Submit(MonotonicTime::Infinite(), in_columns);
    HandStore& first = Asked(0, ticket);
    Asked(1, ticket).Answer(0);
    heard_ = Partitioned(scheme_, 4, 1);
    for (size_t quarter = 0; quarter < heard_.size(); ++quarter) {
      heard_[quarter].instance_id = absl::StrCat("q", quarter);
      heard_[quarter].address = absl::StrCat("q", quarter, ":7300");
    }
    directory_->Say(heard_);
    first.FailWith(0, Broken());
    for (const size_t quarter : {0, 1}) {
      HandStore* asked = nullptr;
      while (asked == nullptr || asked->requests() == 0) {
        transport_->Poll(ticket);
        asked = StoreAt(heard_[quarter].address);
      }
      EXPECT_TRUE(asked->Answer(0));
    }
    EXPECT_TRUE(transport_->Wait(ticket).ok());
    EXPECT_TRUE(HasAllRows(0) && HasAllRows(1));
    EXPECT_EQ(transport_->routing()->split_again, 1u);
  }
};

TEST_F(CutAnewTest, APartOfColumnsIsSplitAgain) { Run(/*in_columns=*/true); }
TEST_F(CutAnewTest, APartOfRowsIsSplitAgain) { Run(/*in_columns=*/false); }

// Of two partitions that nobody has the columns are one piece, of nobody.
TEST_F(ClusterTransportTest, WhatWaitsForTwoPartitionsIsSplitOnceTheyAreBack) {
  Attach(4, 1);
  directory_->Say({heard_[0], heard_[1]});
  const Ticket ticket = Submit();
  Asked(0, ticket).Answer(0);
  Asked(1, ticket).Answer(0);
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kInFlight);
  directory_->Say(heard_);
  for (const uint32_t partition : {2u, 3u}) Asked(partition, ticket).Answer(0);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows(0) && HasAllRows(1));
}

TEST_F(ClusterTransportTest, AStoreThatLiesIsAskedOnceWhateverItSays) {
  Attach(1, 1);
  Ticket ticket = Submit();
  HandStore& liar = Asked(0, ticket);
  liar.FailWith(0, absl::FailedPreconditionError("it holds rows [0, 10)"));
  for (int batch = 0; batch < 2; ++batch) {
    while (transport_->Poll(ticket) == TicketState::kInFlight) {
      clock_.Advance(absl::Milliseconds(100));
      directory_->Speak(heard_[0].address);  // and says once more that it holds all
    }
    const absl::Status status = transport_->Wait(ticket);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("it holds rows [0, 10)"), HasSubstr(heard_[0].address)));
    transport_->Reap(ticket);
    ticket = Submit();
  }
  EXPECT_EQ(liar.requests(), 1u);
  EXPECT_EQ(transport_->routing()->lies, 1u);
  EXPECT_GE(transport_->routing()->maps, 2u);
  EXPECT_THAT(transport_->Describe(), HasSubstr(heard_[0].address));
  // What it says is another publication's.
  ++heard_[0].sets[0].generation;
  directory_->Say(heard_);
  EXPECT_TRUE(Asked(0, ticket, 2).Answer(1));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
}

TEST_F(ClusterTransportTest, ADrainingStoreIsAskedWhereNoOtherIs) {
  Attach(1, 2);
  heard_[0].sets[0].state = HoldingState::kDraining;
  directory_->Say(heard_);
  for (int i = 0; i < 4; ++i) {
    const Ticket ticket = Submit();
    HandStore& asked = Asked(0, ticket, static_cast<size_t>(i) + 1);
    EXPECT_EQ(AddressOf(asked), heard_[1].address);
    asked.Answer(i);
    EXPECT_TRUE(transport_->Wait(ticket).ok());
    transport_->Reap(ticket);
  }
  directory_->Say({heard_[0]});
  const Ticket ticket = Submit();
  HandStore& last = OtherThan(*StoreAt(heard_[1].address), 0, ticket);
  EXPECT_TRUE(last.Answer(0));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
}

TEST_F(ClusterTransportTest, ANameThatLeadsElsewhereSupersedes) {
  Attach(1, 1);
  std::stop_source never;
  std::vector<StoreState> next = heard_;
  next[0].sets.push_back(next[0].sets[0]);
  next[0].sets[1].set_id = std::string(64, 'b');
  next[0].sets[1].generation = 2;
  absl::Status superseded = absl::UnknownError("not yet");
  std::thread waiter([&] { superseded = transport_->WaitSuperseded(never.get_token()); });
  directory_->Say(next);
  waiter.join();
  EXPECT_TRUE(superseded.ok()) << superseded;
}

TEST_F(ClusterTransportTest, AWaitForAnotherSetEnds) {
  Attach(1, 1);
  std::stop_source stop;
  absl::Status status;
  std::thread waiter([&] { status = transport_->WaitSuperseded(stop.get_token()); });
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

}  // namespace
}  // namespace engram
