#include "server/net/connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
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
  int Add(MonotonicTime since, std::optional<Connections::Traffic> traffic) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fds_.insert(fds_.end(), {pair[0], pair[1]});
    traffic_[pair[0]] = traffic;
    connections_.Add(pair[0], since);
    return pair[1];
  }
  static MonotonicTime At(int64_t seconds) { return MonotonicTime() + absl::Seconds(seconds); }

  std::map<int, std::optional<Connections::Traffic>> traffic_;
  Connections connections_{[this](int fd) { return traffic_[fd]; }};
  std::vector<int> fds_;
};

TEST_F(MeasuredConnectionsTest, ThoseThatSentMostBeyondWhatTheyTookAreEnded) {
  const int worker = Add(At(0), {{.received = 50'000'000, .taken = 900'000'000}});
  const int unknown = Add(At(0), std::nullopt);
  const int worst = Add(At(0), {{.received = 9'000'000, .taken = 100}});
  const int bad = Add(At(0), {{.received = 5'000'000, .taken = 1'000'000}});
  const int little = Add(At(0), {{.received = 9'000, .taken = 0}});
  EXPECT_EQ(connections_.EndUnanswered(1'000'000), 9'000'000u - 100);
  EXPECT_TRUE(HasEnded(worst));
  EXPECT_FALSE(HasEnded(bad));
  // Once; then the next one, and none that is as all are.
  EXPECT_EQ(connections_.EndUnanswered(100'000'000), 4'000'000u);
  EXPECT_TRUE(HasEnded(bad));
  EXPECT_EQ(connections_.EndUnanswered(100'000'000), 0u);
  for (const int fd : {worker, unknown, little}) EXPECT_FALSE(HasEnded(fd));
}

TEST_F(MeasuredConnectionsTest, RoomIsMadeByThoseThatTookNothingAndElseByTheSilent) {
  const auto end_one = [&](int64_t now) {
    return connections_.EndLeastUsed(1, At(now), absl::Seconds(10), absl::Seconds(60));
  };
  const int worker =
      Add(At(0), {{.received = 5'000, .taken = 5'000'000, .silent = absl::Seconds(3000)}});
  const int busy =
      Add(At(0), {{.received = 5'000, .taken = 5'000'000, .silent = absl::Seconds(5)}});
  const int young = Add(At(100), {{.received = 100, .taken = 60}});
  const int older = Add(At(80), {{.received = 1'000'000, .taken = 60}});
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

// The kernel's own counts, over TCP.
TEST(Connections, SeesWhatCameAndWasTaken) {
  const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(name);
  ASSERT_EQ(bind(listening, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
  ASSERT_EQ(listen(listening, 4), 0);
  ASSERT_EQ(getsockname(listening, reinterpret_cast<sockaddr*>(&name), &length), 0);
  Connections connections;
  int client[2], server[2];
  for (int i = 0; i < 2; ++i) {
    client[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(connect(client[i], reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    server[i] = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    ASSERT_GE(server[i], 0);
    connections.Add(server[i], MonotonicTime());
  }
  const std::string bytes(40'000, 'x');
  std::string got(bytes.size(), ' ');
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(send(client[i], bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    ASSERT_EQ(recv(server[i], got.data(), got.size(), MSG_WAITALL),
              static_cast<ssize_t>(got.size()));
  }
  // The second is answered.
  ASSERT_EQ(send(server[1], bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  ASSERT_EQ(recv(client[1], got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  EXPECT_NEAR(connections.EndUnanswered(1), bytes.size(), 2);
  EXPECT_TRUE(HasEnded(client[0]));
  EXPECT_FALSE(HasEnded(client[1]));
  for (const int fd : {listening, client[0], client[1], server[0], server[1]}) close(fd);
}

}  // namespace
}  // namespace engram
