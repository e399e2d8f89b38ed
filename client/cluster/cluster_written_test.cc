// Stores that are reached in a faster way than gRPC: when it is taken, and left, and that nothing
// is written to memory that was given back or asked for elsewhere.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/cluster/cluster_transport.h"
#include "client/cluster/testing/device_store.h"
#include "client/cluster/testing/hand_stores.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using testing::DeviceStore;
using testing::HandDirectory;
using testing::HandStore;
using ::testing::HasSubstr;
using testing::kHandRowBytes;
using testing_cluster::Partitioned;
using testing_cluster::Scheme;

constexpr uint32_t kTokens = 3;

enum class Way { kDevice, kRegisteredDevice, kMapped };

class ClusterWrittenTest : public ::testing::Test {
 protected:
  // Every store has the way, once it has been asked over gRPC.
  void Attach(uint32_t partitions, uint32_t replicas, Way way) {
    way_ = way;
    heard_ = Partitioned(scheme_, partitions, replicas);
    AttachedTableSet set;
    set.manifest.id = testing_cluster::kSetId;
    set.manifest.name = "table";
    set.manifest.scheme = scheme_;
    for (const LayerAddressing& layer : scheme_.layers) {
      LayerTableSpec& spec = set.manifest.layers.emplace_back();
      spec.layer = layer.layer;
      spec.rows = layer.Rows();
      spec.row_bytes = kHandRowBytes;
    }
    auto transport = ClusterTransport::Create(
        {.table_set = std::move(set),
         .max_batch_rows = 1 << 20,
         .owner_version = "",
         .directory = std::make_unique<HandDirectory>(heard_),
         .open = [this](const std::string& address) { return Open(address); },
         .open_faster = [this](const std::string& address) { return OpenFaster(address); },
         .driver = QueueDriver::Create(absl::ZeroDuration(), clock_).value(),
         .router = {.client_id = "me", .zone = ""},
         .seed = 1,
         .clock = &clock_});
    ASSERT_TRUE(transport.ok()) << transport.status();
    transport_ = *std::move(transport);
    for (size_t layer = 0; layer < scheme_.layers.size(); ++layer) {
      rows_.emplace_back(size_t{kTokens} * scheme_.Columns() * kHandRowBytes);
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
    slow_[address] = store.get();
    return store;
  }
  FasterWay OpenFaster(const std::string& address) {
    MutexLock lock(mutex_);
    if (!may_open_) return {.why = "no device", .may_come = true};
    auto store = std::make_shared<DeviceStore>(clock_, &writers_, way_ == Way::kMapped);
    fast_[address].push_back(store);
    return {.transport = store,
            .landing = way_ == Way::kMapped ? LandingWay::kCopied : LandingWay::kWritten,
            .anywhere = way_ != Way::kRegisteredDevice};
  }

  Ticket Submit(MonotonicTime deadline = MonotonicTime::Infinite()) {
    const ColumnSlice all = ColumnSlice::All(scheme_.Columns());
    std::vector<LayerRequest> layers;
    for (size_t i = 0; i < scheme_.layers.size(); ++i) {
      layers.push_back({.layer = scheme_.layers[i].layer,
                        .row_ids = ids_[i],
                        .landing = {.data = rows_[i].data()},
                        .slice = &all});
    }
    const auto ticket = transport_->Submit({.layers = layers, .deadline = deadline});
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return ticket.value_or(Ticket());
  }
  HandStore* SlowAt(size_t store) {
    MutexLock lock(mutex_);
    const auto found = slow_.find(heard_[store].address);
    return found == slow_.end() ? nullptr : found->second;
  }
  DeviceStore* FastAt(size_t store) {
    MutexLock lock(mutex_);
    const auto found = fast_.find(heard_[store].address);
    return found == fast_.end() ? nullptr : found->second.back().get();
  }
  void LookUp() {
    const Ticket ticket = Submit();
    while (transport_->Poll(ticket) == TicketState::kInFlight) AnswerAll();
    EXPECT_TRUE(transport_->Wait(ticket).ok());
    transport_->Reap(ticket);
  }
  // Returns once each store was asked over gRPC, and its faster way is there.
  void Warm() {
    do {
      LookUp();
    } while (std::any_of(heard_.begin(), heard_.end(), [&](const StoreState& store) {
      return SlowAt(static_cast<size_t>(&store - heard_.data())) == nullptr;
    }));
    AwaitWays(heard_.size());
  }
  void AwaitWays(size_t count) {
    while (Described("device") + Described("mapped") < count) std::this_thread::yield();
  }
  // A store whose way broke is asked again after a while.
  void AwaitSlow(Ticket ticket, size_t requests) {
    while (SlowAt(0)->requests() < requests) {
      transport_->Poll(ticket);
      clock_.Advance(absl::Milliseconds(1));
    }
  }
  // How many stores are reached so.
  size_t Described(const std::string& way) {
    const std::string text = transport_->Describe();
    const size_t at = text.find(" over " + way);
    return at == std::string::npos ? 0 : std::stoul(text.substr(text.rfind(' ', at - 1) + 1));
  }
  void AnswerAll() {
    for (size_t store = 0; store < heard_.size(); ++store) {
      if (HandStore* const slow = SlowAt(store)) {
        for (size_t i = 0; i < slow->requests(); ++i) slow->Answer(i);
      }
      if (DeviceStore* const fast = FastAt(store)) {
        for (size_t i = 0; i < fast->requests(); ++i) fast->Answer(i);
      }
    }
  }
  bool HasAllRows() {
    for (size_t layer = 0; layer < ids_.size(); ++layer) {
      for (size_t i = 0; i < ids_[layer].size(); ++i) {
        std::byte row[kHandRowBytes];
        testing::FillRow(scheme_.layers[layer].layer, ids_[layer][i], row);
        if (std::memcmp(row, &rows_[layer][i * sizeof(row)], sizeof(row)) != 0) return false;
      }
    }
    return true;
  }
  void Wipe() {
    for (auto& rows : rows_) std::fill(rows.begin(), rows.end(), std::byte{0});
  }
  bool IsWiped() {
    return std::all_of(rows_.begin(), rows_.end(), [](const auto& rows) {
      return std::all_of(rows.begin(), rows.end(), [](std::byte b) { return b == std::byte{0}; });
    });
  }
  void Register() {
    for (auto& rows : rows_) ASSERT_TRUE(transport_->Register(absl::MakeSpan(rows)).ok());
  }

  const AddressScheme scheme_ = Scheme();
  FakeClock clock_;
  testing::Writers writers_;
  Way way_ = Way::kDevice;
  std::vector<StoreState> heard_;
  std::vector<std::vector<RowId>> ids_;
  std::vector<std::vector<std::byte>> rows_;
  Mutex mutex_;
  bool may_open_ ABSL_GUARDED_BY(mutex_) = true;
  std::map<std::string, HandStore*> slow_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::shared_ptr<DeviceStore>>> fast_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Transport> transport_;
};

TEST_F(ClusterWrittenTest, TheFasterWayIsTakenOnceItIsThere) {
  Attach(1, 1, Way::kDevice);
  EXPECT_THAT(transport_->Describe(), HasSubstr("1 not asked yet"));
  Warm();
  EXPECT_THAT(transport_->Describe(), HasSubstr("1 over device"));
  Wipe();
  const Ticket ticket = Submit();
  ASSERT_EQ(FastAt(0)->requests(), 1);
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kInFlight);
  EXPECT_TRUE(FastAt(0)->Answer(0));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows());
  EXPECT_EQ(SlowAt(0)->requests(), 1);
  EXPECT_EQ(writers_.collisions(), 0);
}

TEST_F(ClusterWrittenTest, MappedRowsAreThereWhenSubmitReturns) {
  Attach(1, 1, Way::kMapped);
  Warm();
  Wipe();
  const Ticket ticket = Submit();
  EXPECT_TRUE(HasAllRows());
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_EQ(SlowAt(0)->requests(), 1);
  // Its owner has stopped: gRPC may know more.
  FastAt(0)->Refuse(absl::UnavailableError("the owner has stopped"));
  const Ticket second = Submit();
  ASSERT_EQ(SlowAt(0)->requests(), 2);
  SlowAt(0)->Answer(1);
  EXPECT_TRUE(transport_->Wait(second).ok());
  EXPECT_THAT(transport_->Describe(), HasSubstr("1 over grpc (left mapped: the owner has stopped"));
}

TEST_F(ClusterWrittenTest, ASilentDeviceIsCutOffBeforeItsPartIsAskedForElsewhere) {
  Attach(1, 2, Way::kDevice);
  Warm();
  Wipe();
  const size_t before[] = {FastAt(0)->requests(), FastAt(1)->requests()};
  const Ticket ticket = Submit();
  const size_t silent = FastAt(0)->requests() > before[0] ? 0 : 1;
  DeviceStore& device = *FastAt(silent);
  ASSERT_EQ(device.requests(), before[silent] + 1);
  clock_.Advance(Router::kSilence);
  while (FastAt(1 - silent)->requests() == before[1 - silent]) transport_->Poll(ticket);
  EXPECT_TRUE(device.is_cut());
  EXPECT_FALSE(device.Write(before[silent]));  // what it writes late reaches nothing
  EXPECT_TRUE(IsWiped());
  EXPECT_TRUE(FastAt(1 - silent)->Answer(before[1 - silent]));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows());
  EXPECT_EQ(writers_.collisions(), 0);
  EXPECT_GT(transport_->routing()->drains, 0u);
}

TEST_F(ClusterWrittenTest, ADeviceThatAnswersPieceByPieceIsNotSilent) {
  Attach(1, 2, Way::kDevice);
  Warm();
  Wipe();
  const size_t before[] = {FastAt(0)->requests(), FastAt(1)->requests()};
  const Ticket ticket = Submit();
  const size_t slow = FastAt(0)->requests() > before[0] ? 0 : 1;
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(Router::kSilence - absl::Milliseconds(1));
    FastAt(slow)->AnswerAPiece();
    transport_->Poll(ticket);
  }
  EXPECT_FALSE(FastAt(slow)->is_cut());
  EXPECT_EQ(FastAt(1 - slow)->requests(), before[1 - slow]);
  EXPECT_TRUE(FastAt(slow)->Answer(before[slow]));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows());
  EXPECT_EQ(transport_->routing()->drains, 0u);
}

TEST_F(ClusterWrittenTest, AnErrorIsNoProofThatNothingIsWrittenAnyMore) {
  Attach(1, 2, Way::kDevice);
  Warm();
  const size_t before[] = {FastAt(0)->requests(), FastAt(1)->requests()};
  const Ticket ticket = Submit();
  const size_t asked = FastAt(0)->requests() > before[0] ? 0 : 1;
  FastAt(asked)->FailWith(before[asked], absl::ResourceExhaustedError("one request of it"));
  for (int i = 0; i < 20; ++i) transport_->Poll(ticket);
  EXPECT_EQ(FastAt(1 - asked)->requests(), before[1 - asked]);
  FastAt(asked)->EndRequest(before[asked]);
  while (FastAt(1 - asked)->requests() == before[1 - asked]) transport_->Poll(ticket);
  EXPECT_TRUE(FastAt(1 - asked)->Answer(before[1 - asked]));
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_FALSE(FastAt(asked)->is_cut());
  EXPECT_EQ(writers_.collisions(), 0);
}

TEST_F(ClusterWrittenTest, AWayThatBreaksIsLeftForGrpcAndOpenedAgainLater) {
  Attach(1, 1, Way::kDevice);
  Warm();
  const Ticket ticket = Submit();
  ASSERT_EQ(FastAt(0)->requests(), 1);
  FastAt(0)->Break();
  AwaitSlow(ticket, 2);
  EXPECT_THAT(transport_->Describe(), HasSubstr("1 over grpc (left device: the queue pair"));
  SlowAt(0)->Answer(1);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows());
  transport_->Reap(ticket);
  EXPECT_EQ(transport_->routing()->free_resends, 1u);
  while (Described("device") == 0) clock_.Advance(FasterWays::kFirstPause);
  const Ticket again = Submit();
  EXPECT_EQ(FastAt(0)->requests(), 1);
  FastAt(0)->Answer(0);
  EXPECT_TRUE(transport_->Wait(again).ok());
}

TEST_F(ClusterWrittenTest, AWayThatIsGoneWhenItIsToBeUsedCostsNothing) {
  Attach(1, 1, Way::kDevice);
  Warm();
  FastAt(0)->Break();  // and nobody was there to see it
  const Ticket ticket = Submit();
  AwaitSlow(ticket, 2);
  SlowAt(0)->Answer(1);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_EQ(writers_.open(), 0u);
}

TEST_F(ClusterWrittenTest, MemoryIsGivenBackOnceTheDeviceIsCutOff) {
  Attach(1, 1, Way::kDevice);
  Warm();
  const Ticket ticket = Submit();
  ASSERT_EQ(FastAt(0)->requests(), 1);
  std::atomic<bool> is_reaped = false;
  std::thread reaper([&] {
    transport_->Reap(ticket);
    is_reaped = true;
  });
  while (transport_->Poll(ticket) == TicketState::kInFlight) {
  }
  EXPECT_TRUE(FastAt(0)->Write(0));  // it may write: the memory is its still
  EXPECT_FALSE(is_reaped);
  while (!is_reaped) clock_.Advance(absl::Milliseconds(10));
  reaper.join();
  EXPECT_TRUE(FastAt(0)->is_cut());
  Wipe();
  EXPECT_FALSE(FastAt(0)->Write(0));
  EXPECT_TRUE(IsWiped());
  EXPECT_EQ(writers_.open(), 0u);
}

TEST_F(ClusterWrittenTest, ADeadlineLeavesTheMemoryLentUntilTheDeviceHasAnswered) {
  Attach(1, 1, Way::kDevice);
  Warm();
  const Ticket ticket = Submit(clock_.After(absl::Milliseconds(20)));
  clock_.Advance(absl::Milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(transport_->Wait(ticket)));
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kFailedLent);
  EXPECT_TRUE(FastAt(0)->Write(0));
  FastAt(0)->EndRequest(0);
  transport_->Reap(ticket);  // at once, and the connection stays
  EXPECT_FALSE(FastAt(0)->is_cut());
  const Ticket next = Submit();
  EXPECT_TRUE(FastAt(0)->Answer(1));
  EXPECT_TRUE(transport_->Wait(next).ok());
}

TEST_F(ClusterWrittenTest, ADeviceWritesToRegisteredMemoryAlone) {
  Attach(1, 1, Way::kRegisteredDevice);
  Warm();
  const Ticket first = Submit();
  EXPECT_EQ(FastAt(0)->requests(), 0);
  ASSERT_EQ(SlowAt(0)->requests(), 2);
  SlowAt(0)->Answer(1);
  EXPECT_TRUE(transport_->Wait(first).ok());
  transport_->Reap(first);
  Register();
  EXPECT_EQ(FastAt(0)->registered(), rows_.size());
  Wipe();
  const Ticket second = Submit();
  ASSERT_EQ(FastAt(0)->requests(), 1);
  EXPECT_TRUE(FastAt(0)->Answer(0));
  EXPECT_TRUE(transport_->Wait(second).ok());
  EXPECT_TRUE(HasAllRows());
  transport_->Reap(second);
  for (auto& rows : rows_) EXPECT_TRUE(transport_->Unregister(absl::MakeSpan(rows)).ok());
  EXPECT_EQ(FastAt(0)->registered(), 0u);
}

TEST_F(ClusterWrittenTest, APartOfSeveralRunsIsWrittenRunByRun) {
  Attach(4, 1, Way::kRegisteredDevice);
  Register();
  Warm();
  EXPECT_EQ(FastAt(3)->registered(), rows_.size());  // a link that was opened later is told
  Wipe();
  const Ticket ticket = Submit();
  for (size_t store = 0; store < 4; ++store) {
    EXPECT_EQ(FastAt(store)->requests(), 3);  // of each order two columns, which lie together
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(FastAt(store)->Answer(i));
  }
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  EXPECT_TRUE(HasAllRows());
  EXPECT_EQ(writers_.collisions(), 0);
}

TEST_F(ClusterWrittenTest, ALinkThatDoesNotTakeABufferIsLeft) {
  Attach(1, 1, Way::kRegisteredDevice);
  Warm();
  FastAt(0)->Refuse(absl::ResourceExhaustedError("no memory can be pinned"));
  Register();
  EXPECT_THAT(transport_->Describe(), HasSubstr("left device: no memory can be pinned"));
  const Ticket ticket = Submit();
  AwaitSlow(ticket, 2);
  SlowAt(0)->Answer(1);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
}

TEST_F(ClusterWrittenTest, AClientThatGoesLeavesNoWriter) {
  Attach(2, 1, Way::kRegisteredDevice);
  Register();
  Warm();
  Submit();
  EXPECT_GT(writers_.open(), 0u);
  std::atomic<bool> is_over = false;
  std::thread mover([&] {
    while (!is_over) clock_.Advance(absl::Milliseconds(10));
  });
  transport_.reset();
  is_over = true;
  mover.join();
  EXPECT_EQ(writers_.open(), 0u);
}

}  // namespace
}  // namespace engram
