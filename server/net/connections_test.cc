#include "server/net/connections.h"

#include <sys/socket.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace engram {
namespace {

// Whether its other end has ended it.
bool HasEnded(int fd) {
  char byte = 0;
  return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

TEST(Connections, EndsThoseThatAreStillOpenAndNoOthers) {
  int kept[2], closed[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, kept), 0);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, closed), 0);
  Connections connections;
  connections.Add(kept[0]);
  connections.Add(closed[0]);
  close(closed[0]);
  // A stranger's, which has the number now.
  int stranger[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stranger), 0);
  ASSERT_EQ(stranger[0], closed[0]);
  EXPECT_FALSE(HasEnded(kept[1]));
  connections.ShutDown();
  EXPECT_TRUE(HasEnded(kept[1]));
  EXPECT_FALSE(HasEnded(stranger[1]));
  connections.Add(stranger[0]);
  connections.ShutDown();
  EXPECT_TRUE(HasEnded(stranger[1]));
  for (const int fd : {kept[0], kept[1], closed[1], stranger[0], stranger[1]}) close(fd);
}

}  // namespace
}  // namespace engram
