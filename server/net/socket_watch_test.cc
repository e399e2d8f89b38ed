#include "server/net/socket_watch.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// HEADERS of 16,000 bytes without an end, and CONTINUATION of as many.
std::string Block(uint8_t type) {
  std::string frame("\0\x3e\x80", 3);
  frame.push_back(static_cast<char>(type));
  return frame + std::string("\0\0\0\0\1", 5) + std::string(16000, 'h');
}

class SocketWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair_), 0);
    const int bytes = 1 << 20;  // so that the test's own writes do not wait
    for (const int fd : pair_) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
  }
  void TearDown() override {
    for (const int fd : pair_) close(fd);
  }
  ssize_t Send(int fd, std::string bytes) {
    iovec piece{.iov_base = bytes.data(), .iov_len = bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    return sendmsg(fd, &message, MSG_NOSIGNAL);
  }
  // In two pieces, as gRPC's buffers are.
  ssize_t Receive(int fd, int flags = 0) {
    std::string first(1000, ' '), second(100'000, ' ');
    iovec pieces[] = {{.iov_base = first.data(), .iov_len = first.size()},
                      {.iov_base = second.data(), .iov_len = second.size()}};
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    return recvmsg(fd, &message, flags | MSG_DONTWAIT);
  }
  int server() const { return pair_[0]; }
  int client() const { return pair_[1]; }

  // What was watched refers to it, beyond a test.
  static inline FakeClock clock_{MonotonicTime() + absl::Hours(10)};
  int pair_[2];
};

TEST_F(SocketWatchTest, LibrariesCallsAreLookedAt) {
  EXPECT_TRUE(CheckSocketsCanBeWatched().ok()) << CheckSocketsCanBeWatched();
}

TEST_F(SocketWatchTest, CountsWhatIsNotAnswered) {
  ASSERT_TRUE(WatchSocket(server(), Wire::kPlain, &clock_).ok());
  Send(client(), kPreface);
  EXPECT_EQ(Receive(server(), MSG_PEEK), static_cast<ssize_t>(kPreface.size()));
  EXPECT_EQ(TrafficOf(server())->unanswered, 0u);
  EXPECT_EQ(Receive(server()), static_cast<ssize_t>(kPreface.size()));
  EXPECT_EQ(TrafficOf(server())->unanswered, kPreface.size());
  clock_.Advance(absl::Seconds(5));
  EXPECT_EQ(TrafficOf(server())->silent, absl::Seconds(5));
  EXPECT_EQ(TrafficOf(server())->unanswered_for, absl::Seconds(5));

  // What is sent beyond what came counts for nothing later.
  EXPECT_EQ(Send(server(), std::string(50'000, 'r')), 50'000);
  EXPECT_EQ(TrafficOf(server())->unanswered, 0u);
  EXPECT_EQ(TrafficOf(server())->taken, 0u);
  EXPECT_EQ(Receive(client()), 50'000);
  EXPECT_EQ(TrafficOf(server())->taken, 50'000u);
  const std::string ping = std::string("\0\0\x08\6\0\0\0\0\0", 9) + std::string(8, 'p');
  Send(client(), ping);
  EXPECT_EQ(Receive(server()), static_cast<ssize_t>(ping.size()));
  EXPECT_EQ(TrafficOf(server())->unanswered, ping.size());
  EXPECT_EQ(TrafficOf(server())->unanswered_for, absl::ZeroDuration());
  EXPECT_EQ(TrafficOf(server())->silent, absl::ZeroDuration());
}

TEST_F(SocketWatchTest, ThePeerOfAUnixSocketIsItsUser) {
  const auto name = [](int fd) {
    sockaddr_un address{};
    socklen_t bytes = sizeof(address);
    EXPECT_EQ(getpeername(fd, reinterpret_cast<sockaddr*>(&address), &bytes), 0);
    EXPECT_EQ(address.sun_family, AF_UNIX);
    return std::string(address.sun_path);
  };
  ASSERT_TRUE(WatchSocket(server(), Wire::kPlain, &clock_).ok());
  EXPECT_EQ(name(server()), std::to_string(geteuid()));
  sockaddr_un cut{};
  socklen_t bytes = sizeof(cut.sun_family);
  EXPECT_EQ(getpeername(server(), reinterpret_cast<sockaddr*>(&cut), &bytes), 0);
  EXPECT_EQ(cut.sun_path[0], '\0');
  EXPECT_GT(bytes, sizeof(cut.sun_family));
  // Another socket that has its number.
  int other[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
  ASSERT_EQ(dup2(other[0], pair_[0]), pair_[0]);
  close(other[0]);
  EXPECT_EQ(name(server()), "");
  close(other[1]);
}

TEST_F(SocketWatchTest, NothingIsKnownOfOthers) {
  // A number that no other test has.
  const int other = fcntl(server(), F_DUPFD_CLOEXEC, 500);
  EXPECT_FALSE(TrafficOf(other).has_value());
  close(other);
  EXPECT_FALSE(TrafficOf(-1).has_value());
  EXPECT_FALSE(TrafficOf(1 << 30).has_value());
}

TEST_F(SocketWatchTest, AnEndlessHeaderBlockReadsAsTheEnd) {
  ASSERT_TRUE(WatchSocket(server(), Wire::kPlain, &clock_).ok());
  const uint64_t before = CountEndedForFrames().long_header_blocks;
  for (const std::string& bytes : {kPreface + Block(1), Block(9)}) {
    Send(client(), bytes);
    EXPECT_EQ(Receive(server()), static_cast<ssize_t>(bytes.size()));
  }
  EXPECT_EQ(CountEndedForFrames().long_header_blocks, before);
  Send(client(), Block(9));
  EXPECT_EQ(Receive(server()), 0);
  EXPECT_EQ(CountEndedForFrames().long_header_blocks, before + 1);
}

// As on a busy machine, where who sends comes back from sendmsg after the peer has answered.
TEST_F(SocketWatchTest, SettingsAreAcknowledgedWhileTheyAreStillBeingSent) {
  ASSERT_TRUE(WatchSocket(server(), Wire::kPlain, &clock_).ok());
  std::thread sender([this] { EXPECT_EQ(Send(server(), std::string(16 << 20, 's')), 16 << 20); });
  std::string taken(1, ' ');
  EXPECT_EQ(recv(client(), taken.data(), 1, MSG_WAITALL), 1);
  const std::string acknowledged("\0\0\0\4\1\0\0\0\0", 9);
  Send(client(), kPreface + acknowledged);
  EXPECT_GT(Receive(server()), 0);
  for (uint32_t call = 1; call < 4'000; call += 2) {
    const char high = static_cast<char>(call >> 8), low = static_cast<char>(call);
    Send(client(), std::string("\0\0\0\1\5\0\0", 7) + high + low);
    EXPECT_EQ(Receive(server()), 9) << call;
  }
  taken.resize((16 << 20) - 1);
  EXPECT_EQ(recv(client(), taken.data(), taken.size(), MSG_WAITALL), (16 << 20) - 1);
  sender.join();
}

TEST_F(SocketWatchTest, OthersAreLeftAlone) {
  const auto expect_untouched = [this] {
    for (const std::string& bytes : {kPreface + Block(1), Block(9), Block(9), Block(9)}) {
      Send(client(), bytes);
      EXPECT_EQ(Receive(server()), static_cast<ssize_t>(bytes.size()));
    }
  };
  ASSERT_TRUE(WatchSocket(server(), Wire::kTls, &clock_).ok());
  expect_untouched();  // what is in it is not to be seen here
  // A stranger's socket that has the number of one that was watched.
  ASSERT_TRUE(WatchSocket(server(), Wire::kPlain, &clock_).ok());
  int other[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
  ASSERT_EQ(dup2(other[0], pair_[0]), pair_[0]);
  close(other[0]);
  close(pair_[1]);
  pair_[1] = other[1];
  expect_untouched();
}

}  // namespace
}  // namespace engram
