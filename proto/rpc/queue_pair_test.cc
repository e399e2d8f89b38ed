#include "proto/rpc/queue_pair.h"

#include <array>
#include <cstddef>

#include "gtest/gtest.h"

namespace engram {
namespace {

struct Peer {
  uint32_t queue_pair = 0;
  uint32_t first_sequence = 0;
  std::array<uint8_t, 16> gid{};
  uint16_t lid = 0;
  uint32_t mtu = 0;
  uint32_t reads = 0;
  friend bool operator==(const Peer&, const Peer&) = default;
};

TEST(QueuePair, IsReadAsItWasWritten) {
  Peer peer{
      .queue_pair = 0xabcdef, .first_sequence = 0x123456, .lid = 65535, .mtu = 5, .reads = 16};
  for (size_t i = 0; i < peer.gid.size(); ++i) peer.gid[i] = static_cast<uint8_t>(0xf0 + i);
  v1::RdmaQueuePair pair;
  WriteQueuePair(peer, &pair);
  const auto read = ReadQueuePair<Peer>(pair);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, peer);
}

TEST(QueuePair, WhatIsNoAddressIsRefused) {
  v1::RdmaQueuePair pair;
  WriteQueuePair(Peer(), &pair);
  EXPECT_TRUE(ReadQueuePair<Peer>(pair).ok());
  pair.set_lid(65536);
  EXPECT_EQ(ReadQueuePair<Peer>(pair).status().code(), absl::StatusCode::kInvalidArgument);
  pair.set_lid(1);
  for (const size_t bytes : {size_t{0}, size_t{15}, size_t{17}}) {
    pair.set_gid(std::string(bytes, 'x'));
    EXPECT_EQ(ReadQueuePair<Peer>(pair).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(QueuePair, MemoryIsDescribedByAddressSizeAndTheKeyForOthers) {
  struct Region {
    std::byte* data() const { return reinterpret_cast<std::byte*>(0x7f0000001000); }
    uint64_t bytes() const { return uint64_t{5} << 30; }
    uint32_t local_key() const { return 1; }
    uint32_t remote_key() const { return 0xfedcba98; }
  };
  v1::RdmaWindow window;
  WriteWindow(Region(), &window);
  EXPECT_EQ(window.address(), 0x7f0000001000u);
  EXPECT_EQ(window.bytes(), uint64_t{5} << 30);
  EXPECT_EQ(window.key(), 0xfedcba98u);
}

}  // namespace
}  // namespace engram
