// A client that speaks the handshake and the ring by hand, and wrongly: it gets an error, and the
// clients beside it their rows. And an owner that answers with another table set.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/futex.h"
#include "memstore/os/unix_socket.h"
#include "memstore/shm/protocol.h"
#include "memstore/shm/ring.h"
#include "tests/integration/shm/shm_owner.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

FileDescriptor Connect(const std::string& path) {
  sockaddr_un address;
  EXPECT_TRUE(MakeUnixAddress(path, &address));
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return socket;
}

ShmRequest GoodRequest(ShmMode mode) {
  ShmRequest request{};
  std::memcpy(request.magic, kShmMagic, sizeof(kShmMagic));
  request.version = kShmVersion;
  request.mode = static_cast<uint32_t>(mode);
  return request;
}

struct Answer {
  ShmReply reply{};
  std::vector<FileDescriptor> descriptors;
  bool closed = false;
};

Answer Ask(const FileDescriptor& socket, const void* bytes, size_t count) {
  EXPECT_TRUE(SendMessage(socket, {static_cast<const std::byte*>(bytes), count}, {}).ok());
  Answer answer;
  auto received =
      ReceiveMessage(socket, {reinterpret_cast<std::byte*>(&answer.reply), sizeof(answer.reply)},
                     kShmMaxDescriptors);
  answer.closed = !received.ok();
  if (received.ok()) answer.descriptors = std::move(received->descriptors);
  return answer;
}

void ExpectServes(Transport& transport) {
  ShmBatch batch(300);
  const absl::Status status = batch.LookUp(transport);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(batch.IsExact());
}

void WaitForClients(ShmOwner& owner, uint32_t count) {
  while (owner.endpoint().clients() != count) absl::SleepFor(absl::Milliseconds(1));
}

class ShmHostile : public ::testing::Test {
 protected:
  ShmHostile() {
    owner_.Load();
    owner_.Start();
    bystander_ = owner_.Attach("ring");
  }
  ShmOwner owner_;
  std::unique_ptr<Transport> bystander_;
};

TEST_F(ShmHostile, BadRequestsAreRefusedAndTheSocketClosed) {
  const std::vector<std::pair<const char*, std::function<void(ShmRequest*)>>> wrongs = {
      {"are not those of a request", [](ShmRequest* r) { r->magic[0] ^= 1; }},
      {"version", [](ShmRequest* r) { r->version = 2; }},
      {"mode 9 of shared memory is not known", [](ShmRequest* r) { r->mode = 9; }},
      {"at most 256", [](ShmRequest* r) { r->table_set_bytes = 257; }},
      {"at most 256", [](ShmRequest* r) { r->table_set_bytes = UINT32_MAX; }},
      {"not served", [](ShmRequest* r) { r->table_set_bytes = 256; }},
  };
  for (const auto& [message, change] : wrongs) {
    const FileDescriptor socket = Connect(owner_.socket());
    ShmRequest request = GoodRequest(ShmMode::kMapped);
    change(&request);
    const Answer answer = Ask(socket, &request, sizeof(request));
    ASSERT_FALSE(answer.closed) << message;
    EXPECT_NE(answer.reply.code, 0u) << message;
    EXPECT_TRUE(answer.descriptors.empty());
    EXPECT_THAT(std::string(answer.reply.message, answer.reply.message_bytes), HasSubstr(message));
    WaitForClients(owner_, 1);
  }
  ExpectServes(*bystander_);
}

TEST_F(ShmHostile, RequestsOfEveryLengthAreRefused) {
  std::byte bytes[4096] = {};
  const ShmRequest request = GoodRequest(ShmMode::kMapped);
  std::memcpy(bytes, &request, sizeof(request));
  for (const size_t count : {size_t{1}, size_t{8}, size_t{12}, sizeof(request) - 1,
                             sizeof(request) + 1, sizeof(bytes)}) {
    const FileDescriptor socket = Connect(owner_.socket());
    const Answer answer = Ask(socket, bytes, count);
    EXPECT_TRUE(answer.closed || answer.reply.code != 0) << count;
  }
  WaitForClients(owner_, 1);
  ExpectServes(*bystander_);
}

TEST_F(ShmHostile, ALeaseThatSpeaksEndsAndOneThatCameWithDescriptorsGetsNone) {
  const ShmRequest request = GoodRequest(ShmMode::kMapped);
  const FileDescriptor chatty = Connect(owner_.socket());
  EXPECT_EQ(Ask(chatty, &request, sizeof(request)).reply.code, 0u);
  WaitForClients(owner_, 2);
  EXPECT_TRUE(Ask(chatty, &request, sizeof(request)).closed);
  WaitForClients(owner_, 1);
  const FileDescriptor giver = Connect(owner_.socket());
  const int fds[] = {0, 1, 2};
  ASSERT_TRUE(
      SendMessage(giver, {reinterpret_cast<const std::byte*>(&request), sizeof(request)}, fds)
          .ok());
  WaitForClients(owner_, 1);
  ExpectServes(*bystander_);
}

TEST_F(ShmHostile, ClientsBeyondTheBoundAreToldSo) {
  std::vector<FileDescriptor> idle;
  while (owner_.endpoint().clients() < kMaxShmClients) {
    const uint32_t before = owner_.endpoint().clients();
    idle.push_back(Connect(owner_.socket()));
    WaitForClients(owner_, before + 1);
  }
  const absl::Status status =
      ShmTransport::Attach(owner_.socket(), "", absl::ZeroDuration(), "").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  ExpectServes(*bystander_);
  idle.clear();
  WaitForClients(owner_, 1);
  EXPECT_NE(owner_.Attach(""), nullptr);
}

TEST_F(ShmHostile, WhatIsLentCannotBeChanged) {
  const ShmRequest request = GoodRequest(ShmMode::kMapped);
  const FileDescriptor socket = Connect(owner_.socket());
  const Answer answer = Ask(socket, &request, sizeof(request));
  ASSERT_EQ(answer.reply.code, 0u);
  ASSERT_EQ(answer.descriptors.size(), 5u);  // manifest, token map, control page, two tables
  for (const FileDescriptor& memfd : answer.descriptors) {
    EXPECT_NE(ftruncate(memfd.get(), 0), 0);
    EXPECT_NE(ftruncate(memfd.get(), off_t{1} << 30), 0);
    EXPECT_NE(pwrite(memfd.get(), "x", 1, 0), 1);
    EXPECT_NE(fallocate(memfd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0), MAP_FAILED);
    EXPECT_NE(fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
    void* const page = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, memfd.get(), 0);
    ASSERT_NE(page, MAP_FAILED);
    EXPECT_NE(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
    EXPECT_NE(madvise(page, 4096, MADV_REMOVE), 0);
    munmap(page, 4096);
  }
}

// An owner between: whatever a client asks for, it hands over the only set of the real one.
class OtherSetsOwner {
 public:
  OtherSetsOwner(std::string path, std::string real) : real_(std::move(real)) {
    sockaddr_un address;
    EXPECT_TRUE(MakeUnixAddress(path, &address));
    EXPECT_EQ(bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    EXPECT_EQ(listen(listening_.get(), 8), 0);
    thread_ = std::thread([this] { Run(); });
  }
  ~OtherSetsOwner() {
    shutdown(listening_.get(), SHUT_RDWR);
    thread_.join();
  }

 private:
  void Run() {
    // The real owner's leases, which end with this.
    std::vector<FileDescriptor> sockets;
    while (true) {
      FileDescriptor client(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client.is_open()) return;
      ShmRequest request{};
      ASSERT_TRUE(
          ReceiveMessage(client, {reinterpret_cast<std::byte*>(&request), sizeof(request)}, 0)
              .ok());
      request.table_set_bytes = 0;
      FileDescriptor real = Connect(real_);
      const Answer answer = Ask(real, &request, sizeof(request));
      std::vector<int> descriptors;
      for (const FileDescriptor& one : answer.descriptors) descriptors.push_back(one.get());
      const auto* const reply = reinterpret_cast<const std::byte*>(&answer.reply);
      ASSERT_TRUE(SendMessage(client, {reply, sizeof(answer.reply)}, descriptors).ok());
      sockets.push_back(std::move(client));
      sockets.push_back(std::move(real));
    }
  }

  const std::string real_;
  const FileDescriptor listening_{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  std::thread thread_;
};

TEST_F(ShmHostile, AnotherSetThanTheOneAskedForIsNotTaken) {
  const std::string path = owner_.socket() + "2";
  const OtherSetsOwner other(path, owner_.socket());
  const std::string name = bystander_->table_set().manifest.name;
  for (const std::string mode : {"", "ring"}) {
    for (const std::string& asked : {std::string(64, 'a'), std::string("another")}) {
      const absl::Status status =
          ShmTransport::Attach(path, asked, absl::Seconds(20), mode).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << asked << status;
      EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(asked), HasSubstr(owner_.id())));
    }
    for (const std::string& asked : {owner_.id(), name, std::string()}) {
      const absl::Status status =
          ShmTransport::Attach(path, asked, absl::Seconds(20), mode).status();
      EXPECT_TRUE(status.ok()) << asked << status;
    }
  }
}

// A ring held by hand.
class HostileRing : public ShmHostile {
 protected:
  HostileRing() : socket_(Connect(owner_.socket())) {
    const ShmRequest request = GoodRequest(ShmMode::kRing);
    Answer answer = Ask(socket_, &request, sizeof(request));
    EXPECT_EQ(answer.reply.code, 0u);
    memfd_ = std::move(answer.descriptors.back());
    region_ = *MapMemfd(memfd_, kRingBytes, Access::kReadWrite);
    ring_ = RingView(region_.data());
  }

  // Submits one piece as it stands and waits for its completion: its code.
  absl::StatusCode Submit(const std::function<void(RingSlot&, uint64_t*)>& fill) {
    RingSlot& slot = ring_.slot(piece_);
    slot.sequence = piece_;
    slot.layer = 1;
    slot.rows = 3;
    slot.batch = piece_ + 1;
    for (uint64_t i = 0; i < 3; ++i) __atomic_store_n(&ring_.ids(piece_)[i], i, __ATOMIC_RELAXED);
    fill(slot, ring_.ids(piece_));
    ring_.header().submitted = ++piece_;
    Ring();
    while (ring_.header().completed != piece_) absl::SleepFor(absl::Microseconds(50));
    return static_cast<absl::StatusCode>(slot.code.load());
  }
  void Ring() {
    ring_.header().doorbell.fetch_add(1);
    FutexWakeAll(ring_.header().doorbell);
  }
  void ExpectClosed() {
    while (ring_.header().closed == 0) absl::SleepFor(absl::Microseconds(50));
    EXPECT_EQ(ring_.header().closed, static_cast<uint32_t>(absl::StatusCode::kInvalidArgument));
    WaitForClients(owner_, 1);
    ExpectServes(*bystander_);
  }

  FileDescriptor socket_;
  FileDescriptor memfd_;
  Mapping region_;
  RingView ring_;
  uint32_t piece_ = 0;
};

TEST_F(HostileRing, BadPiecesGetAnErrorAndTheRingGoesOn) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  using Slot = RingSlot&;
  EXPECT_EQ(Submit([](Slot, uint64_t*) {}), absl::StatusCode::kOk);
  EXPECT_TRUE(IsSyntheticRow(1, 2, {ring_.rows(0) + size_t{2} * 264, 264}));
  EXPECT_EQ(Submit([](Slot slot, uint64_t*) { slot.sequence = 77; }), kInvalid);
  EXPECT_EQ(Submit([](Slot slot, uint64_t*) { slot.layer = 2; }), kInvalid);
  EXPECT_EQ(Submit([](Slot slot, uint64_t*) { slot.rows = 0; }), kInvalid);
  EXPECT_EQ(Submit([](Slot slot, uint64_t*) { slot.rows = RingSlotRows(264) + 1; }), kInvalid);
  EXPECT_EQ(Submit([](Slot slot, uint64_t*) { slot.rows = UINT32_MAX; }), kInvalid);
  EXPECT_EQ(Submit([](Slot, uint64_t* ids) { ids[2] = ShmOwner::kRows; }), kInvalid);
  EXPECT_EQ(Submit([](Slot, uint64_t* ids) { ids[0] = UINT64_MAX; }), kInvalid);
  EXPECT_EQ(Submit([](Slot slot, uint64_t*) { slot.rows = RingSlotRows(264); }),
            absl::StatusCode::kOk);  // what else lies in the ids are zeros
  EXPECT_EQ(Submit([](Slot, uint64_t*) {}), absl::StatusCode::kOk);
  ExpectServes(*bystander_);
}

TEST_F(HostileRing, AnIndexMovedBackwardsEndsTheRing) {
  EXPECT_EQ(Submit([](RingSlot&, uint64_t*) {}), absl::StatusCode::kOk);
  ring_.header().submitted = 0;
  Ring();
  ExpectClosed();
}

TEST_F(HostileRing, AnIndexTooFarAheadEndsTheRing) {
  ring_.header().submitted = kRingSlots + 1;
  Ring();
  ExpectClosed();
}

// The owner counts for itself: whatever is scribbled over its words, pieces are served in order.
TEST_F(HostileRing, TheOwnersWordsAreNotReadBack) {
  for (int i = 0; i < 50; ++i) {
    const uint32_t before = piece_;
    RingHeader& header = ring_.header();
    header.completed = 0xFFFFFFF0;
    header.slots = 0;
    header.version = 99;
    header.owner_sleeps = 7;
    header.client_sleeps = 1u << 31;
    EXPECT_EQ(Submit([](RingSlot&, uint64_t*) {}), absl::StatusCode::kOk);
    EXPECT_EQ(header.completed, before + 1);
  }
  ExpectServes(*bystander_);
}

// Ids that change while the owner looks at them: each piece is served or refused, never more.
TEST_F(HostileRing, IdsThatChangeUnderTheOwnersHands) {
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    for (uint64_t i = 0; !stop; ++i) {
      for (uint32_t slot = 0; slot < kRingSlots; ++slot) {
        // NOLINTNEXTLINE: a race is the subject
        __atomic_store_n(&ring_.ids(slot)[i % 3], i % 2 == 0 ? 5 : uint64_t{1} << 40,
                         __ATOMIC_RELAXED);
      }
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const absl::StatusCode code = Submit([](RingSlot&, uint64_t*) {});
    ASSERT_TRUE(code == absl::StatusCode::kOk || code == absl::StatusCode::kInvalidArgument);
  }
  stop = true;
  scribbler.join();
  ExpectServes(*bystander_);
}

TEST_F(HostileRing, TheRegionCannotBeCutOff) {
  EXPECT_NE(ftruncate(memfd_.get(), 0), 0);
  EXPECT_NE(ftruncate(memfd_.get(), kRingBytes * 2), 0);
  EXPECT_NE(fcntl(memfd_.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  // Its pages may be given back; what the owner then finds is zeros.
  EXPECT_EQ(fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kRingBytes), 0);
  Ring();
  ExpectServes(*bystander_);
}

TEST_F(HostileRing, ClosingMidWayEndsItsThread) {
  RingHeader& header = ring_.header();
  for (uint32_t piece = 0; piece < kRingSlots; ++piece) ring_.slot(piece).rows = 900;
  header.submitted = kRingSlots;
  Ring();
  socket_ = FileDescriptor();
  WaitForClients(owner_, 1);
  EXPECT_EQ(owner_.endpoint().rings(), 1u);
  ExpectServes(*bystander_);
}

}  // namespace
}  // namespace engram::integration
