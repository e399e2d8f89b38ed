// Clients of an owner that holds a part of the table set, mapped and over a ring.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/unix_socket.h"
#include "memstore/shm/protocol.h"
#include "tests/integration/shm/shm_owner.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kHalf = ShmOwner::kRows / 2;

class PartialShmTest : public ::testing::TestWithParam<std::string> {
 protected:
  // The second of two columns: rows kHalf to the last one of each layer.
  void SetUp() override {
    owner_.Load(PartitionIndex{1, 2});
    owner_.Start();
    transport_ = owner_.Attach(GetParam());
    ASSERT_NE(transport_, nullptr);
  }
  absl::Status LookUp(const std::vector<RowId>& ids) {
    rows_.assign(ids.size() * 264, std::byte{0});
    const LayerRequest layers[] = {{.layer = 1, .row_ids = ids, .landing = {.data = rows_.data()}}};
    const absl::StatusOr<Ticket> ticket = transport_->Submit({.layers = layers});
    if (!ticket.ok()) return ticket.status();
    absl::Status status = transport_->Wait(*ticket);
    transport_->Reap(*ticket);
    return status;
  }

  ShmOwner owner_{/*shareable=*/true, /*columns=*/2};
  std::unique_ptr<Transport> transport_;
  std::vector<std::byte> rows_;
};

TEST_P(PartialShmTest, RowsThatAreHeldAreExact) {
  EXPECT_EQ(transport_->capabilities().name, GetParam().empty() ? "shm" : "shm-ring");
  std::vector<RowId> ids;
  for (uint64_t row = kHalf; row < ShmOwner::kRows; row += 7) ids.push_back(row);
  ids.push_back(ShmOwner::kRows - 1);
  ASSERT_TRUE(LookUp(ids).ok());
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_TRUE(IsSyntheticRow(1, ids[i], {&rows_[i * 264], 264})) << ids[i];
  }
}

TEST_P(PartialShmTest, OthersAreRefusedWithWhatIsHeld) {
  for (const RowId row : {RowId{0}, RowId{kHalf - 1}}) {
    const absl::Status status = LookUp({kHalf, row});
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(
        std::string(status.message()),
        AllOf(HasSubstr("layer 1"), HasSubstr("[10000, 20000)"), HasSubstr("columns 1..1")));
  }
  EXPECT_TRUE(LookUp({kHalf}).ok());
  EXPECT_EQ(LookUp({ShmOwner::kRows}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(PartialShmTest, WhatIsHeldIsSaidAndNoTableIsHandedOut) {
  const std::vector<HeldLayer>& held = transport_->table_set().held;
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0], (HeldLayer{ShmOwner::kRows, {{kHalf, kHalf}}}));
  EXPECT_EQ(held[1], held[0]);
  EXPECT_EQ(transport_->MappedTable(0), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Modes, PartialShmTest, ::testing::Values("", "ring"));

// What a client of this version asks, `takes` apart.
SocketMessage Ask(const std::string& path, uint32_t takes, ShmReply* reply) {
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address;
  EXPECT_TRUE(MakeUnixAddress(path, &address));
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ShmRequest request{};
  std::memcpy(request.magic, kShmMagic, sizeof(kShmMagic));
  request.version = kShmVersion;
  request.mode = static_cast<uint32_t>(ShmMode::kMapped);
  request.takes = takes;
  EXPECT_TRUE(
      SendMessage(socket, {reinterpret_cast<const std::byte*>(&request), sizeof(request)}, {})
          .ok());
  absl::StatusOr<SocketMessage> received =
      ReceiveMessage(socket, absl::MakeSpan(reinterpret_cast<std::byte*>(reply), sizeof(*reply)),
                     kShmMaxDescriptors);
  EXPECT_TRUE(received.ok()) << received.status();
  return received.ok() ? *std::move(received) : SocketMessage();
}

// One that does not know of parts would read rows that are not there.
TEST(PartialShm, AnOlderClientIsRefused) {
  ShmOwner owner(/*shareable=*/true, /*columns=*/2);
  owner.Load(PartitionIndex{1, 2});
  owner.Start();
  ShmReply reply{};
  EXPECT_TRUE(Ask(owner.socket(), kShmTakesImageTokenIds, &reply).descriptors.empty());
  EXPECT_EQ(reply.code, static_cast<uint32_t>(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(reply.message, reply.message_bytes), HasSubstr("holds a part"));
}

// Holes are none of the file's: one would grow, in the owner's account, by what a client reads.
TEST(PartialShm, ADescriptorHasNoRoomForWhatIsNotHeld) {
  ShmOwner owner(/*shareable=*/true, /*columns=*/2);
  owner.Load(PartitionIndex{1, 2});
  owner.Start();
  ShmReply reply{};
  const SocketMessage message = Ask(owner.socket(), kShmTakesHeldRows, &reply);
  EXPECT_EQ(reply.code, 0u);
  // Manifest, token map, control page, held rows, two tables.
  ASSERT_EQ(message.descriptors.size(), 6u);
  struct stat table;
  ASSERT_EQ(fstat(message.descriptors[4].get(), &table), 0);
  EXPECT_GE(table.st_size, 264 * static_cast<off_t>(kHalf));
  EXPECT_LT(table.st_size, 264 * static_cast<off_t>(ShmOwner::kRows));
}

// An owner that holds all of the set says nothing of it, as before there were parts.
TEST(PartialShm, OfAllOfASetNothingIsSaid) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  ShmReply reply{};
  EXPECT_EQ(Ask(owner.socket(), kShmTakesHeldRows, &reply).descriptors.size(), 5u);
  EXPECT_THAT(std::string(reply.message, reply.message_bytes), ::testing::Not(HasSubstr("held")));
  const auto transport = owner.Attach("");
  EXPECT_TRUE(transport->table_set().held.empty());
  EXPECT_NE(transport->MappedTable(0), nullptr);
}

}  // namespace
}  // namespace engram::integration
