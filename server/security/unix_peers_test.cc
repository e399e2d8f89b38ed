#include "server/security/unix_peers.h"

#include <sys/socket.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(UnixPeers, TellsTheUsersOfWhatIsOpen) {
  UnixPeers peers;
  EXPECT_THAT(peers.Uids(), IsEmpty());
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  peers.Add(pair[0]);
  EXPECT_THAT(peers.Uids(), ElementsAre(geteuid()));
  close(pair[0]);
  EXPECT_THAT(peers.Uids(), IsEmpty());
  // Its number is another socket's now, of which nobody told.
  int other[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
  EXPECT_THAT(peers.Uids(), IsEmpty());
  for (const int fd : {pair[1], other[0], other[1]}) close(fd);
}

TEST(UnixPeers, WhatIsNoUnixSocketHasNoUser) {
  UnixPeers peers;
  peers.Add(-1);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  peers.Add(ends[0]);
  EXPECT_THAT(peers.Uids(), IsEmpty());
  for (const int fd : ends) close(fd);
}

}  // namespace
}  // namespace engram
