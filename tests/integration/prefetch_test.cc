// The worker side's prefetcher over real transports and a real engramd: rows in place before the
// layer runs, whichever way they come, and a clear end when the store dies.
#include <algorithm>
#include <csignal>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/prefetcher.h"
#include "gtest/gtest.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/head_slice.h"
#include "memstore/base/clock.h"
#include "tests/cluster/partitioned_stores.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

constexpr uint32_t kChunkTokens = 200;
constexpr size_t kTokens = 1500;

// What a worker of one way is made of.
struct Worker {
  Worker(Client& client, FetchPath path, bool separate_memory, uint64_t hot_cache_bytes = 0,
         const ColumnSlice* slice = nullptr)
      : slice(slice == nullptr ? ColumnSlice::All(client.table_set().scheme.Columns()) : *slice),
        device(OpenDevice(DeviceKind::kHost, {.separate_memory = separate_memory}).value()),
        stream(device->MakeStream("compute").value()),
        prefetcher(Prefetcher::Create(client.transport(), *device,
                                      {.max_tokens = kChunkTokens,
                                       .slots = 2,
                                       .slices = Slices(client, slice),
                                       .path = path,
                                       .hot_cache_bytes = hot_cache_bytes})
                       .value()) {}
  static std::vector<ColumnSlice> Slices(Client& client, const ColumnSlice* slice) {
    if (slice == nullptr) return {};
    return std::vector<ColumnSlice>(client.table_set().layers.size(), *slice);
  }
  ColumnSlice slice;  // of every layer
  std::unique_ptr<Device> device;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Prefetcher> prefetcher;
};

class PrefetchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "set");
    Serve();
  }
  void Serve() {
    engramd_ = std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", scratch_ / "set", "--listen", "127.0.0.1:0",
                                 "--shm-socket", scratch_ / "shm"});
    address_ = engramd_->WaitUntilServing();
    ASSERT_TRUE(engramd_->WaitForLine("shared memory at"));
  }
  void TearDown() override {
    if (HasFailure()) std::cerr << engramd_->Log();
  }

  std::unique_ptr<Client> Attach(const std::string& target, const std::string& mode = "") {
    auto client = Client::Attach(target, {.table_set = {}, .mode = mode});
    EXPECT_TRUE(client.ok()) << target << ": " << client.status();
    return *std::move(client);
  }

  // Prefills the token stream in chunks, one being fetched while the one before is read; all that
  // the layers read, as ExpectedRows has it.
  static std::string Prefill(Client& client, Worker& worker, absl::Span<const int32_t> ids) {
    std::string rows(ids.size() * TokenBytes(client.table_set()), '\0');
    PrefillSlice(client, worker, ids, &rows);
    return rows;
  }
  // The same of the worker's slice, whose rows it puts where they are among all columns.
  static void PrefillSlice(Client& client, Worker& worker, absl::Span<const int32_t> ids,
                           std::string* rows);

  struct Way {
    std::string target;
    std::string mode;
    FetchPath path = FetchPath::kTransport;
  };
  std::vector<Way> Ways();

  ScratchDirectory scratch_;
  std::unique_ptr<EngramdProcess> engramd_;
  std::unique_ptr<PartitionedStores> stores_;
  std::string address_;
};

void PrefetchTest::PrefillSlice(Client& client, Worker& worker, absl::Span<const int32_t> ids,
                                std::string* rows) {
  const auto& layers = client.table_set().layers;
  const size_t row_bytes = layers[0].row_bytes;
  const size_t layer_bytes = client.table_set().scheme.Columns() * row_bytes;
  const uint64_t token_bytes = TokenBytes(client.table_set());
  SequenceState state = Addresser::Start();
  const auto prefetch = [&](size_t first) {
    const auto chunk = ids.subspan(first, kChunkTokens);
    const SequenceTokens sequence{state, static_cast<uint32_t>(chunk.size())};
    EXPECT_TRUE(client.addresser().Advance(chunk, {}, &state).ok());
    return worker.prefetcher
        ->Prefetch({.sequences = {&sequence, 1},
                    .token_ids = chunk,
                    .deadline = RealClock().Now() + absl::Seconds(60)})
        .value();
  };
  std::vector<std::string> read(layers.size());  // by the stream
  StepTicket next = prefetch(0);
  for (size_t first = 0; first < ids.size(); first += kChunkTokens) {
    const StepTicket step = next;
    const size_t tokens = std::min<size_t>(kChunkTokens, ids.size() - first);
    if (first + tokens < ids.size()) next = prefetch(first + tokens);
    for (size_t i = 0; i < layers.size(); ++i) {
      EXPECT_TRUE(worker.prefetcher->Wait(step, layers[i].layer, *worker.stream).ok());
      const PlacedRows placed = worker.prefetcher->Rows(step, layers[i].layer).value();
      read[i].resize(tokens * worker.slice.columns() * row_bytes);
      EXPECT_TRUE(worker.stream->Copy(read[i].data(), placed.rows, read[i].size()).ok());
    }
    EXPECT_TRUE(worker.stream->Synchronize().ok());
    for (size_t i = 0; i < layers.size(); ++i) {
      for (size_t token = 0; token < tokens; ++token) {
        char* const to = rows->data() + (first + token) * token_bytes + i * layer_bytes;
        const char* const from = read[i].data() + token * worker.slice.columns() * row_bytes;
        worker.slice.ForEachRun([&](uint32_t in_slice, uint32_t column, uint32_t columns) {
          std::copy_n(from + in_slice * row_bytes, columns * row_bytes, to + column * row_bytes);
        });
      }
    }
    const absl::Status status = worker.prefetcher->Finish(step);
    EXPECT_TRUE(status.ok()) << status;
  }
}

std::vector<PrefetchTest::Way> PrefetchTest::Ways() {
  stores_ = std::make_unique<PartitionedStores>(scratch_, 2, 1);
  return {{"embedded:" + (scratch_ / "set"), ""},
          {"embedded:" + (scratch_ / "set"), "", FetchPath::kMapped},
          {"shm:" + (scratch_ / "shm"), ""},
          {"shm:" + (scratch_ / "shm"), "", FetchPath::kMapped},
          {"shm:" + (scratch_ / "shm"), "ring"},
          {"grpc:" + address_, "stream"},
          {"grpc:" + address_, "unary"},
          {"auto:" + address_, ""},
          {stores_->target(), ""}};
}

TEST_F(PrefetchTest, EveryWayPutsTheSameRowsInPlace) {
  const std::vector<int32_t> ids = RealTokenIds(kTokens);
  for (const Way& way : Ways()) {
    for (const bool separate : {false, true}) {
      SCOPED_TRACE(absl::StrCat(way.target, " ", way.mode, " mapped ",
                                way.path == FetchPath::kMapped, " separate ", separate));
      const auto client = Attach(way.target, way.mode);
      Worker worker(*client, way.path, separate);
      const std::string expected = ExpectedRows(client->table_set(), client->addresser(), ids);
      // The strings are megabytes: not to be printed.
      EXPECT_TRUE(Prefill(*client, worker, ids) == expected);
    }
  }
}

// Three ranks of eight heads: what each reads put together is what one reads that reads all.
TEST_F(PrefetchTest, RanksReadTheirHeadsOfEveryOrder) {
  constexpr uint32_t kRanks = 3;
  const std::vector<int32_t> ids = RealTokenIds(kTokens / 3);
  for (const Way& way : Ways()) {
    for (const uint64_t hot_cache_bytes : {0, 1 << 18}) {
      if (hot_cache_bytes > 0 && way.path == FetchPath::kMapped) continue;
      SCOPED_TRACE(absl::StrCat(way.target, " ", way.mode, " mapped ",
                                way.path == FetchPath::kMapped, " hot cache ", hot_cache_bytes));
      const auto client = Attach(way.target, way.mode);
      const AddressScheme& scheme = client->table_set().scheme;
      const std::string expected = ExpectedRows(client->table_set(), client->addresser(), ids);
      std::string rows(expected.size(), '\xA5');
      for (uint32_t rank = 0; rank < kRanks; ++rank) {
        const uint32_t first = rank * scheme.heads_per_order / kRanks;
        const uint32_t end = (rank + 1) * scheme.heads_per_order / kRanks;
        const ColumnSlice slice = SliceOfHeads(scheme, first, end - first).value();
        Worker worker(*client, way.path, rank % 2 == 0, hot_cache_bytes, &slice);
        PrefillSlice(*client, worker, ids, &rows);
        EXPECT_EQ(rows == expected, rank + 1 == kRanks) << "rank " << rank;
      }
    }
  }
}

// Rows out of device memory are those that would have travelled, byte for byte.
TEST_F(PrefetchTest, AHotCacheChangesNoRow) {
  const std::vector<int32_t> ids = RealTokenIds(kTokens);
  for (const std::string& target : {"embedded:" + (scratch_ / "set"), "shm:" + (scratch_ / "shm"),
                                    "grpc:" + address_, "auto:" + address_}) {
    for (const bool separate : {false, true}) {
      SCOPED_TRACE(absl::StrCat(target, " separate ", separate));
      const auto client = Attach(target);
      Worker worker(*client, FetchPath::kTransport, separate, 1 << 20);
      const std::string expected = ExpectedRows(client->table_set(), client->addresser(), ids);
      for (int round = 0; round < 2; ++round) {
        EXPECT_TRUE(Prefill(*client, worker, ids) == expected);
      }
      const HotCacheCounts counts = worker.prefetcher->hot_cache();
      EXPECT_GT(counts.hits, counts.groups);
      EXPECT_GT(counts.misses, counts.groups);  // too small for the text: places change hands
    }
  }
}

// gpu/examples/example_worker.cc, as gpu/README.md shows it.
TEST_F(PrefetchTest, TheExampleWorkersLayersReadTheRightRows) {
  const std::vector<int32_t> ids = RealTokenIds(kTokens);
  WriteFile(scratch_ / "ids",
            {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)});
  const Outcome outcome = RunShell(absl::StrCat("gpu/examples/example_worker grpc:", address_,
                                                " < ", scratch_ / "ids", " > ", scratch_ / "rows"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto client = Attach("embedded:" + (scratch_ / "set"));
  const std::string expected = ExpectedRows(client->table_set(), client->addresser(), ids);
  EXPECT_TRUE(ReadFile(scratch_ / "rows") == expected);
  EXPECT_EQ(RunShell("gpu/examples/example_worker grpc:nowhere < /dev/null").exit_code, 1);
}

// Prefetches one step, kills engramd, waits for the layers; Finish's status.
absl::Status StoreDies(EngramdProcess& engramd, Client& client, Worker& worker,
                       absl::Duration deadline, RowState expected) {
  const std::vector<int32_t> ids = RealTokenIds(kChunkTokens);
  const SequenceTokens sequence{Addresser::Start(), kChunkTokens};
  engramd.Signal(SIGSTOP);  // it takes the request and answers nothing
  const StepTicket step = worker.prefetcher
                              ->Prefetch({.sequences = {&sequence, 1},
                                          .token_ids = ids,
                                          .deadline = RealClock().Now() + deadline})
                              .value();
  absl::SleepFor(absl::Milliseconds(50));
  engramd.Signal(SIGKILL);
  RowState states[2] = {RowState::kNone, RowState::kNone};
  for (size_t i = 0; i < 2; ++i) {
    const uint32_t layer = client.table_set().layers[i].layer;
    EXPECT_TRUE(worker.prefetcher->Wait(step, layer, *worker.stream).ok());
    const uint32_t* const status = worker.prefetcher->Rows(step, layer).value().status;
    EXPECT_TRUE(
        worker.stream->LaunchOnHost([status, state = &states[i]] { *state = StateOf(*status); })
            .ok());
  }
  EXPECT_TRUE(worker.stream->Synchronize().ok());
  EXPECT_EQ(states[0], expected);
  EXPECT_EQ(states[1], expected);
  return worker.prefetcher->Finish(step);
}

TEST_F(PrefetchTest, AStoreThatDiesBetweenPrefetchAndWait) {
  const auto client = Attach("grpc:" + address_);
  Worker worker(*client, FetchPath::kTransport, false);
  const absl::Status status =
      StoreDies(*engramd_, *client, worker, absl::Seconds(2), RowState::kFailed);
  EXPECT_THAT(status.code(),
              ::testing::AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kDeadlineExceeded))
      << status;
}

TEST_F(PrefetchTest, ARingWhoseOwnerDiesBetweenPrefetchAndWait) {
  const auto client = Attach("shm:" + (scratch_ / "shm"), "ring");
  Worker worker(*client, FetchPath::kTransport, false);
  const absl::Status status =
      StoreDies(*engramd_, *client, worker, absl::Seconds(10), RowState::kFailed);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

TEST_F(PrefetchTest, MappedRowsOutliveTheirOwner) {
  for (const FetchPath path : {FetchPath::kTransport, FetchPath::kMapped}) {
    const auto client = Attach("shm:" + (scratch_ / "shm"));
    Worker worker(*client, path, false);
    // The pages are this process's as well.
    const absl::Status status =
        StoreDies(*engramd_, *client, worker, absl::Seconds(60), RowState::kLanded);
    EXPECT_TRUE(status.ok()) << status;
    if (path == FetchPath::kTransport) Serve();
  }
}

TEST_F(PrefetchTest, AStoreThatStopsInGoodOrderEndsMappedRows) {
  const auto client = Attach("shm:" + (scratch_ / "shm"));
  Worker worker(*client, FetchPath::kMapped, false);
  engramd_->Signal(SIGTERM);
  engramd_->WaitForEnd();
  const std::vector<int32_t> ids = RealTokenIds(4);
  const SequenceTokens sequence{Addresser::Start(), 4};
  const StepTicket step = worker.prefetcher
                              ->Prefetch({.sequences = {&sequence, 1},
                                          .token_ids = ids,
                                          .deadline = RealClock().Now() + absl::Seconds(60)})
                              .value();
  const absl::Status status = worker.prefetcher->Finish(step);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

}  // namespace
}  // namespace engram::integration
