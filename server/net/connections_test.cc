#include "server/net/connections.h"

#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/net/socket_watch.h"

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
  connections.Add(kept[0], MonotonicTime());
  connections.Add(closed[0], MonotonicTime());
  close(closed[0]);
  // A stranger's, which has the number now.
  int stranger[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stranger), 0);
  ASSERT_EQ(stranger[0], closed[0]);
  EXPECT_FALSE(HasEnded(kept[1]));
  connections.ShutDown();
  EXPECT_TRUE(HasEnded(kept[1]));
  EXPECT_FALSE(HasEnded(stranger[1]));
  connections.Add(stranger[0], MonotonicTime());
  connections.ShutDown();
  EXPECT_TRUE(HasEnded(stranger[1]));
  for (const int fd : {kept[0], kept[1], closed[1], stranger[0], stranger[1]}) close(fd);
}

// Connections whose traffic the test says.
class MeasuredConnectionsTest : public ::testing::Test {
 protected:
  ~MeasuredConnectionsTest() override {
    for (const int fd : fds_) close(fd);
  }
  // Returns the peer's end.
  int Add(MonotonicTime since, std::optional<SocketTraffic> traffic) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fds_.insert(fds_.end(), {pair[0], pair[1]});
    traffic_[pair[0]] = traffic;
    connections_.Add(pair[0], since);
    return pair[1];
  }
  static MonotonicTime At(int64_t seconds) { return MonotonicTime() + absl::Seconds(seconds); }

  std::map<int, std::optional<SocketTraffic>> traffic_;
  uint64_t measured_ = 0;
  Connections connections_{[this](int fd) {
    ++measured_;
    return traffic_[fd];
  }};
  std::vector<int> fds_;
};

TEST_F(MeasuredConnectionsTest, ThoseThatSentMostWithoutAnAnswerAreEnded) {
  const absl::Duration long_ago = absl::Seconds(1), just_now = absl::Milliseconds(10);
  const int worker = Add(At(0), {{.unanswered = 3'000'000, .unanswered_for = just_now}});
  const int unknown = Add(At(0), std::nullopt);
  const int worst = Add(At(0), {{.unanswered = 9'000'000, .unanswered_for = just_now}});
  const int bad = Add(At(0), {{.unanswered = 4'000'000, .unanswered_for = long_ago}});
  const int little = Add(At(0), {{.unanswered = 9'000, .unanswered_for = long_ago}});
  std::string peer;
  EXPECT_EQ(connections_.EndUnanswered(1'000'000, &peer), 9'000'000u);
  EXPECT_EQ(peer, "unix:");
  EXPECT_TRUE(HasEnded(worst));
  EXPECT_FALSE(HasEnded(bad));
  // Once; then the next one, and none that is as all are, or may be about to be answered.
  EXPECT_EQ(connections_.EndUnanswered(100'000'000), 4'000'000u);
  EXPECT_TRUE(HasEnded(bad));
  EXPECT_EQ(connections_.EndUnanswered(100'000'000), 0u);
  EXPECT_EQ(connections_.EndedUnanswered(), 2u);
  for (const int fd : {worker, unknown, little}) EXPECT_FALSE(HasEnded(fd));
}

TEST_F(MeasuredConnectionsTest, ThoseThatAreReadNoMoreAreEnded) {
  const SocketTraffic silent{.silent = absl::Seconds(3000)};
  const int unread = Add(At(0), silent), idle = Add(At(0), silent);
  const int busy = Add(At(0), {{.silent = absl::ZeroDuration()}});
  const int resumed = Add(At(0), silent);
  for (const int fd : {unread, busy, resumed}) ASSERT_EQ(send(fd, "bytes", 5, 0), 5);
  for (int second = 0; second < 10; ++second) {
    EXPECT_EQ(connections_.EndUnread(At(100 + second)), 0u) << second;
  }
  // As after a pause of the whole process: it is read again.
  traffic_[fds_[6]] = {{.silent = absl::ZeroDuration()}};
  std::string peer;
  EXPECT_EQ(connections_.EndUnread(At(110), &peer), 1u);
  EXPECT_EQ(peer, "unix:");
  EXPECT_TRUE(HasEnded(unread));
  for (const int fd : {idle, busy, resumed}) EXPECT_FALSE(HasEnded(fd));
  traffic_[fds_[6]] = silent;
  EXPECT_EQ(connections_.EndUnread(At(120)), 0u);
  EXPECT_EQ(connections_.EndUnread(At(130)), 1u);
  EXPECT_EQ(connections_.EndedUnread(), 2u);
}

TEST_F(MeasuredConnectionsTest, ThoseThatGoWellAreLookedAtNowAndThen) {
  const int quiet = Add(At(0), {{.silent = absl::Seconds(3000)}});
  Add(At(0), {{.silent = absl::ZeroDuration()}});
  Add(At(0), std::nullopt);
  for (int second = 0; second < 100; ++second) {
    EXPECT_EQ(connections_.EndUnread(At(100 + second)), 0u);
  }
  // Each third second of each.
  EXPECT_LE(measured_, 3 * 34u);
  EXPECT_GE(measured_, 3 * 30u);
  // Bytes that come to one between two looks are found at the next.
  ASSERT_EQ(send(quiet, "bytes", 5, 0), 5);
  for (int second = 200; second < 210; ++second) {
    EXPECT_EQ(connections_.EndUnread(At(second)), 0u) << second;
  }
  size_t ended = 0;
  for (int second = 210; second <= 213; ++second) ended += connections_.EndUnread(At(second));
  EXPECT_EQ(ended, 1u);
  EXPECT_TRUE(HasEnded(quiet));
}

TEST_F(MeasuredConnectionsTest, CountsThoseThatAreOpen) {
  EXPECT_EQ(connections_.CountOpen(), 0u);
  Add(At(0), std::nullopt);
  Add(At(0), {{.unanswered = 9'000'000}});
  EXPECT_EQ(connections_.CountOpen(), 2u);
  EXPECT_EQ(connections_.EndUnanswered(1), 9'000'000u);
  EXPECT_EQ(connections_.CountOpen(), 1u);
}

TEST_F(MeasuredConnectionsTest, RoomIsMadeByThoseThatTookNothingAndElseByTheSilent) {
  const auto end_one = [&](int64_t now) {
    return connections_.EndLeastUsed(1, At(now), absl::Seconds(10), absl::Seconds(60));
  };
  const int worker = Add(At(0), {{.taken = 5'000'000, .silent = absl::Seconds(3000)}});
  const int busy = Add(At(0), {{.taken = 5'000'000, .silent = absl::Seconds(5)}});
  const int young = Add(At(100), {{.taken = 60}});
  const int older = Add(At(80), {{.taken = 60}});
  EXPECT_EQ(end_one(95), 1u);
  EXPECT_TRUE(HasEnded(older));
  EXPECT_FALSE(HasEnded(worker));
  EXPECT_EQ(end_one(110), 1u);
  EXPECT_TRUE(HasEnded(young));
  EXPECT_FALSE(HasEnded(worker));
  EXPECT_EQ(end_one(110), 1u);
  EXPECT_TRUE(HasEnded(worker));
  EXPECT_EQ(end_one(110), 0u);
  EXPECT_FALSE(HasEnded(busy));
  // It goes on saying something, and takes nothing.
  EXPECT_EQ(end_one(200), 1u);
  EXPECT_TRUE(HasEnded(busy));
}

}  // namespace
}  // namespace engram
