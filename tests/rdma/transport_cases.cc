// Rows over RDMA: that they are exact whatever their number and layout, what they cost, and how a
// batch ends.
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <thread>

#include "client/client.h"
#include "client/transport/local/embedded_transport.h"
#include "gtest/gtest.h"
#include "tests/rdma/rdma_owner.h"

namespace {

// Allocations of this thread, and of the owner's polling threads.
thread_local uint64_t own_allocations = 0;
std::atomic<uint64_t> poller_allocations{0};

void* Allocate(size_t bytes, size_t align) {
  ++own_allocations;
  char name[16] = {};
  if (pthread_getname_np(pthread_self(), name, sizeof(name)) == 0 &&
      std::strncmp(name, "engram-rdma", 11) == 0) {
    ++poller_allocations;
  }
  void* const memory = align <= alignof(std::max_align_t)
                           ? std::malloc(bytes)
                           : std::aligned_alloc(align, (bytes + align - 1) / align * align);
  if (memory != nullptr) return memory;
  std::abort();
}

}  // namespace

// The whole family: memory of a new that is not replaced here would reach a delete that is, which
// AddressSanitizer takes for a mistake.
void* operator new(size_t bytes) { return Allocate(bytes, 0); }
void* operator new[](size_t bytes) { return Allocate(bytes, 0); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return Allocate(bytes, 0); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return Allocate(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t align) {
  return Allocate(bytes, static_cast<size_t>(align));
}
void* operator new[](size_t bytes, std::align_val_t align) {
  return Allocate(bytes, static_cast<size_t>(align));
}
void* operator new(size_t bytes, std::align_val_t align, const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<size_t>(align));
}
void* operator new[](size_t bytes, std::align_val_t align, const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<size_t>(align));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  std::free(memory);
}

namespace engram::rdma {
namespace {

class RdmaTransportTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { owner_ = new RdmaOwner; }
  static void TearDownTestSuite() { delete owner_; }
  static RdmaOwner* owner_;
};
RdmaOwner* RdmaTransportTest::owner_ = nullptr;

TEST_F(RdmaTransportTest, RowsAreExactWhateverTheirNumberAndLayout) {
  for (const bool reads : {false, true}) {
    const std::unique_ptr<Transport> transport = owner_->Attach(reads);
    ASSERT_NE(transport, nullptr);
    for (const Layout layout : {Layout::kLayers, Layout::kTokens, Layout::kGaps}) {
      // From a token's to more than several requests, slabs and turns.
      for (const size_t rows : {4u, 16u, 256u, 4096u, 24'000u}) {
        if (reads && rows > 4096) continue;  // one READ a row takes its time here
        Batch batch(rows, layout, rows);
        ASSERT_TRUE(batch.Register(*transport).ok());
        const absl::Status status = batch.LookUp(*transport);
        EXPECT_TRUE(status.ok()) << reads << " " << static_cast<int>(layout) << " " << rows << ": "
                                 << status;
        EXPECT_TRUE(batch.IsExact()) << reads << " " << static_cast<int>(layout) << " " << rows;
        ASSERT_TRUE(transport->Unregister(batch.buffer()).ok());
      }
    }
  }
}

TEST_F(RdmaTransportTest, AMillionRandomRowsAreThoseOfTheEmbeddedStore) {
  const std::unique_ptr<Transport> transport = owner_->Attach();
  auto embedded = EmbeddedTransport::Attach(owner_->set_directory(), "");
  ASSERT_TRUE(embedded.ok()) << embedded.status();
  std::mt19937_64 random(7);
  constexpr size_t kBatchRows = 10'000;
  std::vector<RowId> ids(kBatchRows);
  // Guard pages on both sides: a write beyond the buffer by this process dies at once, and by the
  // device breaks the connection.
  constexpr size_t kPage = 4096;
  const size_t bytes = (kBatchRows * 264 + kPage - 1) / kPage * kPage;
  auto* const memory = static_cast<std::byte*>(
      mmap(nullptr, bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + kPage, bytes, PROT_READ | PROT_WRITE), 0);
  std::byte* const landing = memory + kPage + bytes - kBatchRows * 264;  // ends at the guard
  ASSERT_TRUE(transport->Register({memory + kPage, bytes}).ok());
  std::vector<std::byte> expected(kBatchRows * 264);
  for (int round = 0; round < 100; ++round) {
    for (RowId& id : ids) id = random() % kRows;
    const auto look_up = [&](Transport& way, std::byte* to) {
      const LayerRequest layer{.layer = 1, .row_ids = ids, .landing = {.data = to}};
      const auto ticket = way.Submit({.layers = {&layer, 1}});
      if (!ticket.ok()) return ticket.status();
      absl::Status status = way.Wait(*ticket);
      way.Reap(*ticket);
      return status;
    };
    ASSERT_TRUE(look_up(**embedded, expected.data()).ok());
    ASSERT_TRUE(look_up(*transport, landing).ok());
    ASSERT_EQ(std::memcmp(landing, expected.data(), expected.size()), 0) << round;
  }
  ASSERT_TRUE(transport->Unregister({memory + kPage, bytes}).ok());
  munmap(memory, bytes + 2 * kPage);
}

TEST_F(RdmaTransportTest, ALookupIsOneSendAndFewWrites) {
  auto transport = owner_->Attach();
  const RdmaOwnerCounts& owner = owner_->endpoint().counts();
  for (const Layout layout : {Layout::kLayers, Layout::kTokens}) {
    for (const size_t rows : {16u, 256u, 4096u}) {
      Batch batch(rows, layout);
      ASSERT_TRUE(batch.Register(*transport).ok());
      ASSERT_TRUE(batch.LookUp(*transport).ok());
      const RdmaCounts before = static_cast<RdmaTransport&>(*transport).Counts();
      const uint64_t writes = owner.writes, immediates = owner.immediates,
                     doorbells = owner.doorbells, requests = owner.requests;
      constexpr uint64_t kLookups = 10;
      for (uint64_t i = 0; i < kLookups; ++i) ASSERT_TRUE(batch.LookUp(*transport).ok());
      const RdmaCounts after = static_cast<RdmaTransport&>(*transport).Counts();
      EXPECT_EQ(after.sends - before.sends, kLookups);
      EXPECT_EQ(owner.requests - requests, kLookups);
      const uint64_t reply = rows * (kRowBytes[0] + kRowBytes[1]);
      const uint64_t most = 2 + (reply + kRdmaSlabBytes - 1) / kRdmaSlabBytes;
      EXPECT_LE(owner.writes - writes, kLookups * most);
      EXPECT_EQ(owner.immediates - immediates, kLookups * (layout == Layout::kLayers ? 2 : 1));
      EXPECT_LE(owner.doorbells - doorbells, kLookups * most);
      // An immediate a layer, and a send's now and then.
      EXPECT_LE(after.completions - before.completions,
                owner.immediates - immediates + kLookups / kRdmaSignalEvery + 1);
      std::fprintf(stderr,
                   "%zu rows: %.1f sends, %.1f writes, %.1f owner doorbells, %.1f client "
                   "completions a lookup\n",
                   rows, static_cast<double>(after.sends - before.sends) / kLookups,
                   static_cast<double>(owner.writes - writes) / kLookups,
                   static_cast<double>(owner.doorbells - doorbells) / kLookups,
                   static_cast<double>(after.completions - before.completions) / kLookups);
      ASSERT_TRUE(transport->Unregister(batch.buffer()).ok());
    }
  }
}

TEST_F(RdmaTransportTest, AWarmLookupAllocatesNothing) {
  for (const bool reads : {false, true}) {
    const std::unique_ptr<Transport> transport = owner_->Attach(reads);
    Batch batch(256, Layout::kLayers);
    ASSERT_TRUE(batch.Register(*transport).ok());
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(batch.LookUp(*transport).ok());
    const uint64_t own = own_allocations, poller = poller_allocations;
    const Resources resources = Resources::Now();
    const uint64_t popen_cost = own_allocations - own;
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(batch.LookUp(*transport).ok());
    EXPECT_EQ(own_allocations - own - popen_cost, 0u) << reads;
    EXPECT_EQ(poller_allocations - poller, 0u) << reads;
    EXPECT_EQ(Resources::Now(), resources);  // nothing is registered on the way
  }
}

TEST_F(RdmaTransportTest, LayersLandOneByOneAndManyBatchesAtOnce) {
  const std::unique_ptr<Transport> transport = owner_->Attach();
  std::vector<std::unique_ptr<Batch>> batches;
  std::vector<Ticket> tickets;
  for (size_t i = 0; i < 40; ++i) {
    batches.push_back(std::make_unique<Batch>(400, Layout::kLayers, i));
    ASSERT_TRUE(batches.back()->Register(*transport).ok());
    const auto ticket = transport->Submit({.layers = batches.back()->layers()});
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*ticket);
  }
  for (size_t i = 0; i < batches.size(); ++i) {
    EXPECT_TRUE(transport->WaitLayer(tickets[i], 0).ok());
    EXPECT_TRUE(transport->WaitLayer(tickets[i], 1).ok());
    EXPECT_TRUE(transport->Wait(tickets[i]).ok());
    EXPECT_EQ(transport->Poll(tickets[i]), TicketState::kLanded);
    EXPECT_TRUE(batches[i]->IsExact());
    transport->Reap(tickets[i]);
    EXPECT_EQ(transport->Poll(tickets[i]), TicketState::kReaped);
  }
}

TEST_F(RdmaTransportTest, ThreadsShareAClientAndClientsShareAnOwner) {
  const std::unique_ptr<Transport> one = owner_->Attach();
  const std::unique_ptr<Transport> other = owner_->Attach();
  std::vector<std::thread> threads;
  std::atomic<int> exact{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Transport& transport = t % 2 == 0 ? *one : *other;
      Batch batch(80u + 400 * t, t < 2 ? Layout::kLayers : Layout::kTokens, t);
      ASSERT_TRUE(batch.Register(transport).ok());
      for (int i = 0; i < 20; ++i) {
        batch.Clear();
        const absl::Status status = batch.LookUp(transport);
        ASSERT_TRUE(status.ok()) << status;
        exact += batch.IsExact();
      }
      ASSERT_TRUE(transport.Unregister(batch.buffer()).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(exact, 80);
}

TEST_F(RdmaTransportTest, WhatIsWrongIsRefusedBeforeAnythingIsSent) {
  for (const bool reads : {false, true}) {
    const std::unique_ptr<Transport> transport = owner_->Attach(reads);
    Batch batch(16);
    absl::Status status = batch.LookUp(*transport);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("Register"), status.message().npos) << status;
    ASSERT_TRUE(batch.Register(*transport).ok());
    EXPECT_TRUE(batch.LookUp(*transport).ok());
    EXPECT_EQ(batch.LookUp(*transport, -absl::Seconds(1)).code(),
              absl::StatusCode::kDeadlineExceeded);
    EXPECT_FALSE(transport->Unregister(batch.buffer().subspan(1)).ok());
    EXPECT_TRUE(transport->Unregister(batch.buffer()).ok());
    EXPECT_EQ(batch.LookUp(*transport).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(RdmaTransport::Attach(owner_->address(), "", {.device = "nope0"}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(RdmaTransport::Attach(owner_->address(), "no-such-set", {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(RdmaTransportTest, ACancelledBatchIsReapedAndItsNeighboursLand) {
  const std::unique_ptr<Transport> transport = owner_->Attach();
  Batch large(20'000), small(16, Layout::kLayers, 5);
  ASSERT_TRUE(large.Register(*transport).ok());
  ASSERT_TRUE(small.Register(*transport).ok());
  const auto first = transport->Submit({.layers = large.layers()});
  const auto second = transport->Submit({.layers = small.layers()});
  ASSERT_TRUE(first.ok() && second.ok());
  transport->Cancel(*first);
  EXPECT_EQ(transport->Wait(*first).code(), absl::StatusCode::kCancelled);
  transport->Reap(*first);
  large.Clear();
  EXPECT_TRUE(transport->Wait(*second).ok());
  EXPECT_TRUE(small.IsExact());
  EXPECT_TRUE(large.IsUntouched());
  transport->Reap(*second);
  EXPECT_TRUE(large.LookUp(*transport).ok());
  EXPECT_TRUE(large.IsExact());
}

TEST_F(RdmaTransportTest, ClientsSpreadOverSeveralDevicesAndMayNameOne) {
  // It stays: librdmacm keeps every device open, and one that is open can't be taken away.
  if (std::getenv("RDMA_GUEST") == nullptr ||
      system("ip link add dummy1 type dummy && ip addr add 10.78.0.1/24 dev dummy1 && "
             "ip link set dummy1 mtu 4200 up && rdma link add rxe1 type rxe netdev dummy1") != 0) {
    GTEST_SKIP() << "no second software device can be made here";
  }
  absl::Status opened = absl::NotFoundError("");
  for (int i = 0; i < 100 && !opened.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(50));
    opened = RdmaDevice::Open({.device = "rxe1"}).status();
  }
  ASSERT_TRUE(opened.ok()) << opened;
  {
    const RdmaOwner owner({Device(), "rxe1"});
    ASSERT_EQ(owner.endpoint().ports(), 2u);
    const auto look_up = [&](const std::string& device) {
      auto transport = RdmaTransport::Attach(owner.address(), "", {.device = device});
      ASSERT_TRUE(transport.ok()) << transport.status();
      Batch batch(64);
      ASSERT_TRUE(batch.Register(**transport).ok());
      const absl::Status status = batch.LookUp(**transport);
      EXPECT_TRUE(status.ok()) << device << ": " << status;
      EXPECT_TRUE(batch.IsExact());
    };
    look_up("rxe1");
    look_up(Device());
    for (int i = 0; i < 6; ++i) look_up("");
  }
}

TEST_F(RdmaTransportTest, DetachingFreesEverything) {
  const Resources before = Resources::Now();
  for (const bool reads : {false, true}) {
    std::unique_ptr<Transport> transport = owner_->Attach(reads);
    Batch batch(16);
    ASSERT_TRUE(batch.Register(*transport).ok());
    ASSERT_TRUE(batch.LookUp(*transport).ok());
    EXPECT_NE(Resources::Now(), before);
    transport.reset();
    EXPECT_TRUE(before.ComesBack());
  }
  EXPECT_EQ(owner_->endpoint().clients(), 0u);
}

}  // namespace
}  // namespace engram::rdma
