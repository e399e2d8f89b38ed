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
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

constexpr uint32_t kChunkTokens = 200;
constexpr size_t kTokens = 1500;

// What a worker of one way is made of.
struct Worker {
  Worker(Client& client, FetchPath path, bool separate_memory, uint64_t hot_cache_bytes = 0)
      : device(OpenDevice(DeviceKind::kHost, {.separate_memory = separate_memory}).value()),
        stream(device->MakeStream("compute").value()),
        prefetcher(Prefetcher::Create(client.transport(), *device,
                                      {.max_tokens = kChunkTokens,
                                       .slots = 2,
                                       .path = path,
                                       .hot_cache_bytes = hot_cache_bytes})
                       .value()) {}
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
  static std::string Prefill(Client& client, Worker& worker, absl::Span<const int32_t> ids);

  ScratchDirectory scratch_;
  std::unique_ptr<EngramdProcess> engramd_;
  std::string address_;
};

std::string PrefetchTest::Prefill(Client& client, Worker& worker, absl::Span<const int32_t> ids) {
  const auto& layers = client.table_set().layers;
  const size_t layer_bytes = uint64_t{client.table_set().scheme.Columns()} * layers[0].row_bytes;
  const uint64_t token_bytes = TokenBytes(client.table_set());
  std::string rows(ids.size() * token_bytes, '\0');
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
  StepTicket next = prefetch(0);
  for (size_t first = 0; first < ids.size(); first += kChunkTokens) {
    const StepTicket step = next;
    const size_t tokens = std::min<size_t>(kChunkTokens, ids.size() - first);
    if (first + tokens < ids.size()) next = prefetch(first + tokens);
    for (size_t i = 0; i < layers.size(); ++i) {
      EXPECT_TRUE(worker.prefetcher->Wait(step, layers[i].layer, *worker.stream).ok());
      const PlacedRows placed = worker.prefetcher->Rows(step, layers[i].layer).value();
      char* const to = rows.data() + first * token_bytes + i * layer_bytes;
      for (size_t token = 0; token < tokens; ++token) {
        EXPECT_TRUE(
            worker.stream
                ->Copy(to + token * token_bytes, placed.rows + token * layer_bytes, layer_bytes)
                .ok());
      }
    }
    EXPECT_TRUE(worker.stream->Synchronize().ok());
    const absl::Status status = worker.prefetcher->Finish(step);
    EXPECT_TRUE(status.ok()) << status;
  }
  return rows;
}

TEST_F(PrefetchTest, EveryWayPutsTheSameRowsInPlace) {
  const std::vector<int32_t> ids = RealTokenIds(kTokens);
  const struct {
    std::string target;
    std::string mode;
    FetchPath path = FetchPath::kTransport;
  } ways[] = {{"embedded:" + (scratch_ / "set"), ""},
              {"embedded:" + (scratch_ / "set"), "", FetchPath::kMapped},
              {"shm:" + (scratch_ / "shm"), ""},
              {"shm:" + (scratch_ / "shm"), "", FetchPath::kMapped},
              {"shm:" + (scratch_ / "shm"), "ring"},
              {"grpc:" + address_, "stream"},
              {"grpc:" + address_, "unary"},
              {"auto:" + address_, ""}};
  for (const auto& way : ways) {
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
