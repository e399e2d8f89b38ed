// A client of a cluster from its target on: over real gRPC, with stores of the test's own.
#include "client/cluster/cluster_attach.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/transport/grpc/testing/fake_lookup_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/os/posix_file.h"
#include "memstore/partition/partition.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram {
namespace {

using ::testing::AllOf;
using testing::FakeLookupServer;
using ::testing::HasSubstr;

class ClusterAttachTest : public ::testing::Test {
 protected:
  ClusterAttachTest()
      : manifest_(testing::WriteSmallTableSet(
                      {.layers = {{.layer = 1}, {.layer = 14, .row_bytes = 110, .rows = 3000}},
                       .columns = 4},
                      ::testing::TempDir() + "/cluster_attach_test")
                      .value()) {}

  // What the store of partition index/count says.
  v1::HoldingsResponse Holding(uint32_t index, uint32_t count, const std::string& instance) {
    v1::HoldingsResponse says;
    says.set_instance_id(instance);
    says.set_role(v1::STORE_ROLE_STORE);
    says.add_transports("grpc");
    v1::HeldTableSet* const set = says.add_sets();
    set->set_name(manifest_.name);
    set->set_id(manifest_.id);
    set->set_generation(1);
    set->set_state(v1::HOLDING_STATE_SERVING);
    const auto columns = ColumnsOf(PartitionIndex{index, count}, manifest_.scheme);
    EXPECT_TRUE(columns.ok()) << columns.status();
    const std::vector<HeldLayer> rows = RowsOf(*columns, manifest_.scheme);
    for (size_t i = 0; i < rows.size(); ++i) {
      v1::HeldTable* const table = set->add_layers();
      table->set_layer(manifest_.layers[i].layer);
      table->set_table_rows(rows[i].table_rows);
      for (const RowRange& range : rows[i].ranges) {
        v1::HeldRows* const held = table->add_ranges();
        held->set_first(range.first);
        held->set_rows(range.rows);
      }
    }
    return says;
  }
  FakeLookupServer& AddStore(uint32_t index, uint32_t count) {
    stores_.push_back(std::make_unique<FakeLookupServer>(manifest_));
    stores_.back()->Say(Holding(index, count, absl::StrCat("store", stores_.size())));
    return *stores_.back();
  }
  void AddStores(uint32_t partitions, uint32_t replicas) {
    for (uint32_t p = 0; p < partitions; ++p) {
      for (uint32_t r = 0; r < replicas; ++r) AddStore(p, partitions);
    }
  }
  std::string Place(const std::string& further = "") {
    std::vector<std::string> addresses;
    for (const auto& store : stores_) addresses.push_back(store->address());
    if (!further.empty()) addresses.push_back(further);
    return absl::StrJoin(addresses, ",");
  }
  std::unique_ptr<Transport> Attach(const std::string& further = "") {
    auto transport =
        AttachToCluster(Place(further), "", {.timeout = absl::Seconds(60), .zone = ""});
    EXPECT_TRUE(transport.ok()) << transport.status();
    return transport.ok() ? *std::move(transport) : nullptr;
  }
  // Rows of both layers, in an order that is nobody's.
  absl::Status LookUp(Transport& transport, uint64_t rows) {
    std::vector<LayerRequest> layers;
    std::vector<std::vector<RowId>> ids(manifest_.layers.size());
    std::vector<std::vector<std::byte>> landed(manifest_.layers.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      const LayerTableSpec& layer = manifest_.layers[i];
      for (uint64_t row = 0; row < rows; ++row) ids[i].push_back((row * 7919 + i) % layer.rows);
      landed[i].resize(rows * layer.row_bytes);
      layers.push_back(
          {.layer = layer.layer, .row_ids = ids[i], .landing = {.data = landed[i].data()}});
    }
    const auto ticket =
        transport.Submit({.layers = layers, .deadline = RealClock().After(absl::Seconds(60))});
    if (!ticket.ok()) return ticket.status();
    const absl::Status status = transport.Wait(*ticket);
    transport.Reap(*ticket);
    if (!status.ok()) return status;
    for (size_t i = 0; i < ids.size(); ++i) {
      const LayerTableSpec& layer = manifest_.layers[i];
      for (uint64_t row = 0; row < rows; ++row) {
        if (!IsSyntheticRow(layer.layer, ids[i][row],
                            {&landed[i][row * layer.row_bytes], layer.row_bytes})) {
          return absl::DataLossError(absl::StrCat("layer ", layer.layer, " row ", row));
        }
      }
    }
    return absl::OkStatus();
  }
  static uint64_t Resends(const Transport& transport, ResendReason reason) {
    return transport.routing()->resends[static_cast<size_t>(reason)];
  }

  const Manifest manifest_;
  std::vector<std::unique_ptr<FakeLookupServer>> stores_;
};

TEST_F(ClusterAttachTest, FetchesEveryRowFromTheStoresThatHoldIt) {
  AddStores(2, 2);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  EXPECT_EQ(transport->table_set().manifest.id, manifest_.id);
  EXPECT_TRUE(transport->table_set().held.empty());
  for (const uint64_t rows : {1, 5, 3000}) {
    const absl::Status status = LookUp(*transport, rows);
    EXPECT_TRUE(status.ok()) << status;
  }
  uint64_t sent = 0;
  for (const auto& store : stores_) sent += store->rows_sent();
  EXPECT_GE(sent, 2 * 3000u);
  EXPECT_THAT(transport->Describe(), HasSubstr("2 partitions at 4 stores"));
}

// As a plan's: ids in columns, rows of a token together, tokens with a gap between them.
TEST_F(ClusterAttachTest, DenseBatchesLandInTheirGroups) {
  AddStores(2, 1);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  constexpr uint64_t kTokens = 50, kGap = 40;
  const LayerAddressing& addressing = manifest_.scheme.layers[0];
  const uint32_t columns = manifest_.scheme.Columns();
  const ColumnSlice all = ColumnSlice::All(columns);
  std::vector<RowId> ids;
  for (uint64_t t = 0; t < kTokens; ++t) {
    for (uint32_t c = 0; c < columns; ++c) {
      ids.push_back(addressing.offsets[c] + (t * 31 + c) % addressing.moduli[c]);
    }
  }
  const uint64_t row_bytes = manifest_.layers[0].row_bytes;
  const uint64_t stride = columns * row_bytes + kGap;
  std::vector<std::byte> rows(kTokens * stride, testing::kUntouched);
  const LayerRequest layer = {
      .layer = addressing.layer,
      .row_ids = ids,
      .landing = {.data = rows.data(), .group_rows = columns, .group_stride_bytes = stride},
      .slice = &all};
  const auto ticket = transport->Submit({.layers = {&layer, 1}});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  const absl::Status status = transport->WaitLayer(*ticket, 0);
  EXPECT_TRUE(status.ok()) << status;
  for (uint64_t i = 0; i < ids.size(); ++i) {
    const std::byte* const row = &rows[i / columns * stride + i % columns * row_bytes];
    ASSERT_TRUE(IsSyntheticRow(addressing.layer, ids[i], {row, row_bytes})) << i;
    if (i % columns + 1 == columns) {
      ASSERT_EQ(row[row_bytes], testing::kUntouched) << i;
    }
  }
  EXPECT_EQ(transport->routing()->first_attempts, 2u);
  transport->Reap(*ticket);
}

TEST_F(ClusterAttachTest, ManyThreadsShareIt) {
  AddStores(2, 2);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) {
        const absl::Status status = LookUp(*transport, 60);
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(transport->routing()->landed, 200u);
}

// Nobody waits: the driver's own thread moves it along.
TEST_F(ClusterAttachTest, ASinkIsToldWithoutAWait) {
  struct Sink final : CompletionSink {
    void OnLayerLanded(uint64_t, size_t index) override {
      MutexLock lock(mutex);
      layers.push_back(index);
    }
    void OnTicketEnded(uint64_t, const absl::Status& ended) override {
      MutexLock lock(mutex);
      status = ended;
      is_over = true;
      changed.NotifyAll();
    }
    Mutex mutex;
    CondVar changed;
    std::vector<size_t> layers;
    absl::Status status;
    bool is_over = false;
  } sink;
  AddStores(2, 1);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  std::vector<std::byte> rows(3 * 264), more(3 * 110);
  const std::vector<RowId> ids = {1, 2, 2999};
  const std::vector<LayerRequest> layers = {
      {.layer = 1, .row_ids = ids, .landing = {.data = rows.data()}},
      {.layer = 14, .row_ids = ids, .landing = {.data = more.data()}}};
  const auto ticket = transport->Submit({.layers = layers, .sink = &sink, .sink_tag = 1});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  {
    MutexLock lock(sink.mutex);
    while (!sink.is_over) sink.changed.Wait(sink.mutex);
    EXPECT_TRUE(sink.status.ok()) << sink.status;
    EXPECT_THAT(sink.layers, ::testing::UnorderedElementsAre(0, 1));
  }
  EXPECT_TRUE(IsSyntheticRow(1, 2999, {&rows[2 * 264], 264}));
  transport->Reap(*ticket);
}

TEST_F(ClusterAttachTest, AStoreThatGoesLosesNoLookup) {
  AddStores(2, 2);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(LookUp(*transport, 100).ok());
  stores_[0]->Stop();
  stores_[3]->Stop();
  for (int i = 0; i < 100; ++i) {
    const absl::Status status = LookUp(*transport, 100);
    ASSERT_TRUE(status.ok()) << i << ": " << status;
  }
}

TEST_F(ClusterAttachTest, OnesWhoseConnectionBreaksUnderAPartIsAskedNoMore) {
  AddStores(1, 2);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  stores_[0]->Close();
  stores_[1]->Close();
  std::vector<std::byte> row(264);
  const std::vector<RowId> ids = {5};
  const LayerRequest layer = {.layer = 1, .row_ids = ids, .landing = {.data = row.data()}};
  const Ticket ticket = transport->Submit({.layers = {&layer, 1}}).value();
  while (stores_[0]->calls() + stores_[1]->calls() == 0) transport->Poll(ticket);
  const size_t asked = stores_[0]->calls() > 0 ? 0 : 1;
  stores_[1 - asked]->Open();
  stores_[asked]->Stop();
  const absl::Status status = transport->Wait(ticket);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(IsSyntheticRow(1, 5, row));
}

TEST_F(ClusterAttachTest, WhatNoReadyStoreHoldsIsNamedAtTheTimeOut) {
  AddStore(1, 2);
  const auto transport = AttachToCluster(Place("unix:/nonexistent/store"), "",
                                         {.timeout = absl::Milliseconds(300), .zone = ""});
  EXPECT_TRUE(absl::IsUnavailable(transport.status())) << transport.status();
  EXPECT_THAT(
      std::string(transport.status().message()),
      AllOf(HasSubstr("rows [0, "), HasSubstr("of layer 1"), HasSubstr("/nonexistent/store")));
}

TEST_F(ClusterAttachTest, AnotherNameIsRefusedOnceEveryStoreWasHeard) {
  AddStores(1, 1);
  const auto transport =
      AttachToCluster(Place(), "other", {.timeout = absl::Seconds(60), .zone = ""});
  EXPECT_TRUE(absl::IsFailedPrecondition(transport.status())) << transport.status();
  EXPECT_THAT(std::string(transport.status().message()), HasSubstr(manifest_.name));
}

// Listens, and never answers; with its queue full not even the kernel does.
class BlackHole {
 public:
  BlackHole() {
    place_.sin_family = AF_INET;
    place_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(place_);
    auto* const any = reinterpret_cast<sockaddr*>(&place_);
    EXPECT_EQ(bind(socket_.get(), any, size), 0);
    EXPECT_EQ(listen(socket_.get(), 0), 0);
    EXPECT_EQ(getsockname(socket_.get(), any, &size), 0);
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", ntohs(place_.sin_port)); }
  // Until no more is taken.
  void FillQueue() {
    for (int i = 0; i < 4; ++i) {
      waiting_.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      std::ignore = connect(waiting_.back().get(), reinterpret_cast<const sockaddr*>(&place_),
                            sizeof(place_));  // under way, or refused: the queue is full then
    }
  }

 private:
  const FileDescriptor socket_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in place_{};
  std::vector<FileDescriptor> waiting_;
};

TEST_F(ClusterAttachTest, AnAddressThatSaysNothingIsWaitedForByNobody) {
  BlackHole silent, full;
  full.FillQueue();
  AddStores(2, 1);
  const auto transport = Attach(absl::StrCat(silent.address(), ",", full.address()));
  ASSERT_NE(transport, nullptr);
  EXPECT_TRUE(LookUp(*transport, 100).ok());
}

TEST_F(ClusterAttachTest, AddressesThatSayNothingAreNamedAtTheTimeOut) {
  BlackHole silent, full;
  full.FillQueue();
  AddStore(0, 2);
  const absl::Status status =
      AttachToCluster(Place(absl::StrCat(silent.address(), ",", full.address())), "",
                      {.timeout = absl::Milliseconds(300), .zone = ""})
          .status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(silent.address()), HasSubstr(full.address())));
}

TEST_F(ClusterAttachTest, AStoreThatLiesCostsNoLookup) {
  AddStores(2, 2);
  for (const size_t liar : {0, 2}) {
    stores_[liar]->on_lookup = [](v1::LookupResponse*) {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "it holds nothing");
    };
  }
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  for (int i = 0; i < 40; ++i) {
    const absl::Status status = LookUp(*transport, 50);
    ASSERT_TRUE(status.ok()) << i << ": " << status;
  }
  EXPECT_GT(Resends(*transport, ResendReason::kNotHeld), 0u);
}

TEST_F(ClusterAttachTest, ShowsWhichStoresItHasAndWhichItDoesNotHear) {
  AddStores(2, 2);
  const auto transport = Attach("127.0.0.1:1");
  ASSERT_NE(transport, nullptr);
  const auto wait_for = [&](const std::vector<uint32_t>& up_stores, size_t unheard) {
    while (true) {
      const ClusterView view = *transport->cluster();
      const auto silent = std::count_if(
          view.stores.begin(), view.stores.end(),
          [](const ClusterView::Store& store) { return store.sight == StoreSight::kUnheard; });
      if (view.up_stores_of_piece == up_stores && static_cast<size_t>(silent) == unheard) {
        EXPECT_EQ(view.stores.size(), 5);
        EXPECT_TRUE(view.finds_addresses);
        return;
      }
      ASSERT_TRUE(LookUp(*transport, 10).ok());
    }
  };
  wait_for({2, 2}, 1);
  stores_[0]->Stop();
  wait_for({1, 2}, 2);
}

TEST_F(ClusterAttachTest, AStoreWithoutRoomIsLeftForAnother) {
  AddStores(1, 2);
  stores_[0]->retry_after_ms = 60'000;
  stores_[0]->on_lookup = [](v1::LookupResponse*) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no room");
  };
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  for (int i = 0; i < 40; ++i) {
    const absl::Status status = LookUp(*transport, 50);
    ASSERT_TRUE(status.ok()) << i << ": " << status;
  }
  EXPECT_EQ(stores_[0]->calls(), 1);
  EXPECT_EQ(Resends(*transport, ResendReason::kBusy), 1u);
}

TEST_F(ClusterAttachTest, ADrainingStoreIsLeftBeforeItGoes) {
  AddStores(1, 2);
  const auto transport = Attach();
  ASSERT_NE(transport, nullptr);
  v1::HoldingsResponse draining = Holding(0, 1, "store1");
  draining.mutable_sets(0)->set_state(v1::HOLDING_STATE_DRAINING);
  const uint64_t maps = transport->routing()->maps;
  stores_[0]->Say(draining);
  while (transport->routing()->maps == maps) ASSERT_TRUE(LookUp(*transport, 10).ok());
  const int calls = stores_[0]->calls();
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(LookUp(*transport, 10).ok());
  EXPECT_EQ(stores_[0]->calls(), calls);
}

TEST_F(ClusterAttachTest, AGatewayIsNotTakenForAStore) {
  v1::HoldingsResponse gateway = Holding(0, 1, "gateway");
  gateway.set_role(v1::STORE_ROLE_GATEWAY);
  AddStores(1, 1);
  stores_[0]->Say(gateway);
  const auto transport = AttachToCluster(Place(), "", {.timeout = absl::Seconds(60), .zone = ""});
  EXPECT_TRUE(absl::IsFailedPrecondition(transport.status())) << transport.status();
  EXPECT_THAT(std::string(transport.status().message()),
              AllOf(HasSubstr(stores_[0]->address()), HasSubstr("is a gateway")));
}

TEST_F(ClusterAttachTest, AGatewayWhoseChainComesBackIsRefused) {
  v1::HoldingsResponse gateway = Holding(0, 1, "gateway");
  gateway.set_role(v1::STORE_ROLE_GATEWAY);
  gateway.add_upstream("gateway");
  AddStores(1, 1);
  stores_[0]->Say(gateway);
  const auto transport = AttachToCluster(Place(), "", {.timeout = absl::Seconds(60), .zone = ""});
  // What a store says is no mistake of whoever attaches.
  EXPECT_TRUE(absl::IsFailedPrecondition(transport.status())) << transport.status();
  EXPECT_THAT(std::string(transport.status().message()), HasSubstr("fetches from itself"));
}

TEST_F(ClusterAttachTest, AFileOfItsOwnThatIsNotThereIsNotWaitedFor) {
  AddStores(1, 1);
  for (const SecurityOptions& security :
       {SecurityOptions{.tls_ca = "/no/ca.pem"}, SecurityOptions{.token_file = "/no/token"}}) {
    const auto transport =
        AttachToCluster(Place(), "", {.timeout = absl::InfiniteDuration(), .security = security});
    EXPECT_THAT(std::string(transport.status().message()), HasSubstr("/no/"));
  }
}

}  // namespace
}  // namespace engram
