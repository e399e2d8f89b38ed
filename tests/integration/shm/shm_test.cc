// Clients and an owner of shared memory, mapped and over a ring: exact rows whatever happens to
// either, and nothing left behind by those that are killed.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <thread>

#include "absl/time/clock.h"
#include "client/transport/local/embedded_transport.h"
#include "client/transport/shm/shm_ring.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/os/unix_socket.h"
#include "memstore/shm/protocol.h"
#include "tests/integration/shm/shm_owner.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string>& Modes() {
  static const auto* const kModes = new std::vector<std::string>{"", "ring"};
  return *kModes;
}

size_t Entries(const std::string& directory) {
  const auto begin = std::filesystem::directory_iterator(directory);
  return std::distance(begin, std::filesystem::directory_iterator());
}

template <typename Done>
void WaitFor(const Done& done) {
  while (!done()) absl::SleepFor(absl::Milliseconds(1));
}

TEST(Shm, EveryWayGivesExactRows) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  std::vector<std::unique_ptr<Transport>> transports;
  for (int i = 0; i < 2; ++i) {
    for (const std::string& mode : Modes()) transports.push_back(owner.Attach(mode));
  }
  transports.push_back(EmbeddedTransport::Attach(owner.set_directory(), "").value());
  EXPECT_EQ(transports[0]->capabilities().name, "shm");
  EXPECT_EQ(transports[1]->capabilities().name, "shm-ring");
  EXPECT_EQ(owner.endpoint().clients(), 4u);
  EXPECT_EQ(owner.endpoint().rings(), 2u);
  EXPECT_EQ(transports[0]->table_set().manifest.id, owner.id());
  EXPECT_NE(transports[1]->table_set().token_map, nullptr);
  // Of its width, or measured: never left open.
  EXPECT_GT(transports[0]->MappedTable(0)->ahead_rows, 0u);

  std::vector<std::thread> threads;
  for (size_t t = 0; t < 2 * transports.size(); ++t) {  // two threads a client
    threads.emplace_back([&, t] {
      for (size_t rows : {1, 24, 700, 5, 20000, 48, 3000}) {
        ShmBatch batch(rows, t * 1000003);
        const absl::Status status = batch.LookUp(*transports[t % transports.size()]);
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_TRUE(batch.IsExact()) << rows;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  transports.clear();
  WaitFor([&] { return owner.endpoint().clients() == 0; });
  EXPECT_EQ(owner.endpoint().rings(), 0u);
}

TEST(Shm, TablesThatWereNotLoadedShareableComeOverARing) {
  ShmOwner owner(/*shareable=*/false);
  owner.Load();
  owner.Start();
  const auto transport = owner.Attach("");
  ASSERT_NE(transport, nullptr);
  EXPECT_EQ(transport->capabilities().name, "shm-ring");
  ShmBatch batch(100);
  EXPECT_TRUE(batch.LookUp(*transport).ok());
  EXPECT_TRUE(batch.IsExact());
}

TEST(Shm, AttachSaysWhatIsWrong) {
  ShmOwner owner;
  const auto attach = [&](const std::string& set, absl::Duration timeout, const char* mode = "") {
    return ShmTransport::Attach(owner.socket(), set, timeout, mode).status();
  };
  const absl::Status nobody = attach("", absl::ZeroDuration());
  EXPECT_EQ(nobody.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(nobody.message()), HasSubstr("--shm-socket " + owner.socket()));
  EXPECT_EQ(attach("", absl::ZeroDuration(), "best").code(), absl::StatusCode::kInvalidArgument);
  owner.Load();
  owner.Start();
  for (const std::string& mode : Modes()) {
    const absl::Status status = attach("other", absl::Seconds(5), mode.c_str());
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(owner.id()));
  }
  EXPECT_EQ(attach(std::string(300, 'x'), absl::Seconds(5)).code(),
            absl::StatusCode::kInvalidArgument);
}

// Whatever it is that listens: no usage was bad.
TEST(Shm, AnotherListenerIsNoOwnerAndItsWordsAreALine) {
  const ShmOwner owner;  // that never starts: its socket's place is free
  const std::string path = owner.socket();
  sockaddr_un address;
  ASSERT_TRUE(MakeUnixAddress(path, &address));
  const FileDescriptor listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 4), 0);
  const auto answer = [&](const std::string& text) {
    std::thread peer([&] {
      const FileDescriptor client(accept(listener.get(), nullptr, nullptr));
      // What is left unread would take the answer with it.
      std::byte request[sizeof(ShmRequest)];
      EXPECT_GT(recv(client.get(), request, sizeof(request), 0), 0);
      EXPECT_EQ(send(client.get(), text.data(), text.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(text.size()));
    });
    const absl::Status status = ShmTransport::Attach(path, "", absl::Seconds(30), "").status();
    peer.join();
    return status;
  };
  for (const std::string& text : {std::string("HTTP/1.1 400 Bad Request"), std::string(3000, 'x'),
                                  std::string(100'000, 'x')}) {
    EXPECT_EQ(answer(text).code(), absl::StatusCode::kDataLoss) << text.size();
  }
  ShmReply refusal{};
  std::memcpy(refusal.magic, kShmMagic, sizeof(kShmMagic));
  refusal.version = kShmVersion;
  refusal.code = static_cast<uint32_t>(absl::StatusCode::kPermissionDenied);
  const absl::string_view words = "no \x1b[31m\n";
  refusal.message_bytes = static_cast<uint32_t>(words.size());
  std::memcpy(refusal.message, words.data(), words.size());
  const absl::Status refused =
      answer(std::string(reinterpret_cast<const char*>(&refusal), sizeof(refusal)));
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("no \\x1b[31m\\n"));
}

TEST(Shm, AttachWaitsForTheOwner) {
  ShmOwner owner;
  owner.Load();
  std::thread late([&] {
    absl::SleepFor(absl::Milliseconds(300));
    owner.Start();
  });
  EXPECT_NE(owner.Attach(""), nullptr);
  late.join();
}

TEST(Shm, ARetiredSetFinishesItsBatchesAndBeginsNone) {
  for (const std::string& mode : Modes()) {
    ShmOwner owner;
    owner.Load();
    owner.Start();
    auto transport = owner.Attach(mode);
    const std::weak_ptr<const TableSet> watch = *owner.registry().Acquire(owner.id());
    std::atomic<bool> began{false};
    std::thread reader([&] {
      absl::Status status;
      while (status.ok()) {
        ShmBatch batch(2000);
        status = batch.LookUp(*transport);
        if (status.ok()) {
          ASSERT_TRUE(batch.IsExact());
        }
        began = true;
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    });
    WaitFor([&] { return began.load(); });
    ASSERT_TRUE(owner.registry().Retire(owner.id()).ok());
    reader.join();
    EXPECT_FALSE(watch.expired());  // the lease
    EXPECT_EQ(ShmTransport::Attach(owner.socket(), "", absl::ZeroDuration(), mode).status().code(),
              absl::StatusCode::kFailedPrecondition);
    transport.reset();
    WaitFor([&] { return watch.expired(); });
  }
}

TEST(Shm, AFencedSetIsDataLoss) {
  for (const std::string& mode : Modes()) {
    ShmOwner owner;
    owner.Load();
    owner.Start();
    const auto transport = owner.Attach(mode);
    ShmBatch batch(100);
    ASSERT_TRUE(batch.LookUp(*transport).ok());
    ASSERT_TRUE(owner.registry().Fence(owner.id()).ok());
    EXPECT_EQ(batch.LookUp(*transport).code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(ShmTransport::Attach(owner.socket(), owner.id(), absl::ZeroDuration(), mode)
                  .status()
                  .code(),
              absl::StatusCode::kDataLoss);
  }
}

// Fencing while batches run: each is exact or DATA_LOSS.
TEST(Shm, FencingUnderLoad) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  std::vector<std::unique_ptr<Transport>> transports;
  for (const std::string& mode : Modes()) transports.push_back(owner.Attach(mode));
  std::atomic<int> begun{0};
  std::vector<std::thread> readers;
  for (auto& transport : transports) {
    readers.emplace_back([&] {
      absl::Status status;
      while (status.ok()) {
        ShmBatch batch(500);
        status = batch.LookUp(*transport);
        if (status.ok()) {
          ASSERT_TRUE(batch.IsExact());
        }
        ++begun;
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    });
  }
  WaitFor([&] { return begun.load() > 10; });
  ASSERT_TRUE(owner.registry().Fence(owner.id()).ok());
  for (std::thread& reader : readers) reader.join();
}

// The first layer has landed, so the owner has let the batch begin; the second needs more slots
// than there are, and nobody moves it along before Wait.
TEST(Shm, ABatchOfARingThatHasBegunIsLostToAFenceAndNotToRetiring) {
  for (const bool fence : {false, true}) {
    ShmOwner owner;
    owner.Load();
    owner.Start();
    const auto ring = owner.Attach("ring");
    ShmBatch few(8);
    ShmBatch many(50000);
    const std::vector<LayerRequest> layers = {few.layers()[0], many.layers()[1]};
    const Ticket ticket = ring->Submit({.layers = layers}).value();
    ASSERT_TRUE(ring->WaitLayer(ticket, 0).ok());
    ASSERT_TRUE(
        (fence ? owner.registry().Fence(owner.id()) : owner.registry().Retire(owner.id())).ok());
    const absl::Status status = ring->Wait(ticket);
    EXPECT_EQ(status.code(), fence ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk) << status;
    EXPECT_TRUE(few.FirstLayerIsExact());
    EXPECT_EQ(many.SecondLayerIsExact(), !fence);
    ring->Reap(ticket);
  }
}

// A mapped batch takes some milliseconds here: one that was still under way when its set had been
// fenced does not count.
TEST(Shm, AMappedBatchUnderWayIsLostToAFence) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  const auto set = owner.registry().Acquire(owner.id()).value();
  ShmBatch batch(300000);
  for (int round = 0; round < 10; ++round) {
    const auto mapped = owner.Attach("");
    std::atomic<bool> begun{false};
    std::atomic<bool> done{false};
    absl::Status status;
    std::thread reader([&] {
      begun = true;
      status = batch.LookUp(*mapped);
      done = true;
    });
    WaitFor([&] { return begun.load(); });
    ASSERT_TRUE(owner.registry().Fence(owner.id()).ok());
    const bool was_done = done;
    reader.join();
    if (!was_done) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    }
    ASSERT_TRUE(owner.registry().Publish(set).ok());
  }
}

TEST(Shm, AnOwnerThatStopsIsUnavailableAndItsSocketGone) {
  for (const std::string& mode : Modes()) {
    ShmOwner owner;
    owner.Load();
    owner.Start();
    const auto transport = owner.Attach(mode);
    ShmBatch batch(100);
    ASSERT_TRUE(batch.LookUp(*transport).ok());
    owner.Stop();
    EXPECT_EQ(batch.LookUp(*transport).code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(std::filesystem::exists(owner.socket()));
  }
}

TEST(Shm, DeadlinesCancelsAndReaps) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  const auto ring = owner.Attach("ring");
  ShmBatch large(200000);
  EXPECT_EQ(large.LookUp(*ring, RealClock().Now() + absl::Microseconds(300)).code(),
            absl::StatusCode::kDeadlineExceeded);
  // And for a caller that only polls.
  const Ticket late = ring->Submit({.layers = large.layers(),
                                    .deadline = RealClock().Now() + absl::Milliseconds(3)})
                          .value();
  while (ring->Poll(late) == TicketState::kInFlight) {
  }
  EXPECT_EQ(ring->Wait(late).code(), absl::StatusCode::kDeadlineExceeded);
  ring->Reap(late);
  const auto mapped = owner.Attach("");
  EXPECT_EQ(large.LookUp(*mapped, RealClock().Now() + absl::Microseconds(300)).code(),
            absl::StatusCode::kDeadlineExceeded);
  const Ticket cancelled = ring->Submit({.layers = large.layers()}).value();
  ring->Cancel(cancelled);
  EXPECT_EQ(ring->Wait(cancelled).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(ring->Poll(cancelled), TicketState::kFailedLent);
  ring->Reap(cancelled);
  EXPECT_EQ(ring->Poll(cancelled), TicketState::kReaped);
  // Slots that were given up are used again, and no row of the past lands.
  for (int i = 0; i < 20; ++i) {
    const Ticket gone = ring->Submit({.layers = large.layers()}).value();
    ring->Reap(gone);
    ShmBatch batch(1500, i);
    ASSERT_TRUE(batch.LookUp(*ring).ok());
    ASSERT_TRUE(batch.IsExact());
  }
}

TEST(Shm, LayersOfARingLandInTheOrderOfNeed) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  const auto ring = owner.Attach("ring");
  ShmBatch batch(20000);
  const Ticket ticket = ring->Submit({.layers = batch.layers()}).value();
  EXPECT_TRUE(ring->WaitLayer(ticket, 0).ok());
  EXPECT_TRUE(batch.FirstLayerIsExact());
  EXPECT_TRUE(ring->WaitLayer(ticket, 1).ok());
  EXPECT_TRUE(ring->Wait(ticket).ok());
  EXPECT_TRUE(batch.IsExact());
  ring->Reap(ticket);
}

// Both sides over one mapping, so that ThreadSanitizer sees what each writes and the other reads.
TEST(Shm, ARingsTwoSidesNeverTouchAByteAtOnce) {
  ShmOwner owner;
  owner.Load();
  const ServedSet served = owner.registry().ResolveServed("").value();
  const auto memfd = CreateMemfd("test", kRingBytes, MemfdPages::kAsTheKernelChooses).value();
  Mapping region = MapMemfd(memfd, kRingBytes, Access::kReadWrite).value();
  RingCount count{0};
  ShmAttachment attachment;
  attachment.attached.manifest = served.set->manifest();
  attachment.control = ControlView::Map(served.control->memfd(), owner.id()).value();
  attachment.max_batch_rows = 1 << 20;
  attachment.memory.emplace_back(region.data(), region.bytes());
  auto worker = RingWorker::Start(
                    std::move(region), served, 0, &count, std::make_shared<ThreadMetrics>(), [] {},
                    &RealClock())
                    .value();
  ShmRingTransport transport(ForkMark::Make().value(), std::move(attachment));
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (const size_t rows : {1, 48, 5000, 20, 9000}) {
        ShmBatch batch(rows, t * 77 + rows);
        ASSERT_TRUE(batch.LookUp(transport).ok());
        ASSERT_TRUE(batch.IsExact());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  worker.reset();  // the memory with it; the transport's destructor does not look at it
}

TEST(Shm, AForkedChildGetsAnError) {
  for (const std::string& mode : Modes()) {
    ShmOwner owner;
    owner.Load();
    owner.Start();
    auto transport = owner.Attach(mode);
    ShmBatch batch(10);
    ASSERT_TRUE(batch.LookUp(*transport).ok());
    const Ticket ticket = transport->Submit({.layers = batch.layers()}).value();
    const pid_t child = fork();
    if (child == 0) {
      const bool right = transport->Submit({.layers = batch.layers()}).status().code() ==
                             absl::StatusCode::kFailedPrecondition &&
                         transport->Wait(ticket).code() == absl::StatusCode::kFailedPrecondition &&
                         transport->Poll(ticket) == TicketState::kReaped;
      transport->Reap(ticket);
      transport.reset();
      _exit(right ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(transport->Wait(ticket).ok());
    transport->Reap(ticket);
    EXPECT_TRUE(batch.LookUp(*transport).ok());
    EXPECT_TRUE(batch.IsExact());
  }
}

// What a forked client does until it is killed.
[[noreturn]] void LookUpForever(const std::string& socket, uint64_t seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not beyond a test that fails
  while (true) {
    auto transport =
        ShmTransport::Attach(socket, "", absl::Seconds(60), seed % 2 == 0 ? "" : "ring");
    if (!transport.ok()) continue;
    for (int i = 0; i < 50; ++i) {
      ShmBatch batch(1 + (seed + i) * 37 % 3000, seed + i);
      if (batch.LookUp(**transport).ok() && !batch.IsExact()) _exit(3);
    }
  }
}

TEST(Shm, ClientsThatAreKilledLeaveNothingBehind) {
  ShmOwner owner;
  constexpr int kClients = 12;
  std::vector<pid_t> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(fork());  // before this process has threads
    if (clients.back() == 0) LookUpForever(owner.socket(), i);
  }
  owner.Load();
  owner.Start();
  const auto bystander = owner.Attach("ring");
  const size_t threads = 3;  // at least: this one, the endpoint's, the bystander's ring's
  for (int i = 0; i < kClients; ++i) {
    absl::SleepFor(absl::Microseconds(SplitMix64Mix(i) % 40000));
    ShmBatch batch(1000, i);
    ASSERT_TRUE(batch.LookUp(*bystander).ok());
    ASSERT_TRUE(batch.IsExact());
    kill(clients[i], SIGKILL);
    int status = 0;
    waitpid(clients[i], &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "a client saw a wrong row: " << status;
  }
  WaitFor([&] { return owner.endpoint().clients() == 1 && owner.endpoint().rings() == 1; });
  const size_t descriptors = Entries("/proc/self/fd");
  const size_t tasks = Entries("/proc/self/task");
  EXPECT_GE(tasks, threads);
  // What is there now is what is there after one more comes and goes.
  owner.Attach("ring").reset();
  owner.Attach("").reset();
  WaitFor([&] { return owner.endpoint().clients() == 1 && owner.endpoint().rings() == 1; });
  EXPECT_EQ(Entries("/proc/self/fd"), descriptors);
  EXPECT_LE(Entries("/proc/self/task"), tasks);
  EXPECT_LE(tasks, threads + 1);  // and a sanitizer's own
}

}  // namespace
}  // namespace engram::integration
