#include "server/net/acceptor.h"

#include <fcntl.h>
#include <spdlog/sinks/null_sink.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {
namespace {

// An acceptor at a Unix socket, and what it took.
class AcceptorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/engram-accept-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/s";
  }
  void TearDown() override {
    acceptor_.reset();
    MutexLock lock(mutex_);
    for (const int fd : taken_) close(fd);
    for (const int fd : clients_) close(fd);
    rmdir(directory_.c_str());
  }
  void Start(int fd_limit) {
    auto bound = ListenSocket::Bind(ParseListenAddress("unix:" + path_).value());
    ASSERT_TRUE(bound.ok()) << bound.status();
    auto log =
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>());
    auto acceptor = Acceptor::Start(
        *std::move(bound), fd_limit,
        [this](int, int fd) {
          MutexLock lock(mutex_);
          taken_.push_back(fd);
          changed_.NotifyAll();
        },
        std::move(log), &RealClock(),
        [this] {
          MutexLock lock(mutex_);
          ++asked_for_room_;
          changed_.NotifyAll();
        });
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
  }
  // Its descriptor is out of the way of those that the acceptor gets.
  int Connect() {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strcpy(name.sun_path, path_.c_str());
    const int low = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    clients_.push_back(fcntl(low, F_DUPFD_CLOEXEC, 500));
    close(low);
    EXPECT_EQ(connect(clients_.back(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    return clients_.back();
  }
  // Waits until so many were taken.
  void WaitForTaken(size_t count) {
    MutexLock lock(mutex_);
    while (taken_.size() < count) changed_.Wait(mutex_);
  }
  int Taken(size_t index) {
    MutexLock lock(mutex_);
    return taken_[index];
  }
  // The next descriptor that this process gets.
  static int NextFd() {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
  }

  std::string directory_, path_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<int> clients_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<int> taken_ ABSL_GUARDED_BY(mutex_);
  int asked_for_room_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_F(AcceptorTest, HandsOnWhatConnects) {
  Start(/*fd_limit=*/1000);
  const int first = Connect();
  const int second = Connect();
  WaitForTaken(2);
  EXPECT_EQ(write(first, "x", 1), 1);
  EXPECT_EQ(write(second, "y", 1), 1);
  char byte = 0;
  for (const char expected : {'x', 'y'}) {
    const int fd = Taken(expected == 'x' ? 0 : 1);
    EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ASSERT_EQ(fcntl(fd, F_SETFL, 0), 0);
    ASSERT_EQ(read(fd, &byte, 1), 1);
    EXPECT_EQ(byte, expected);
  }
}

TEST_F(AcceptorTest, TurnsAwayWhatIsTooManyAndTakesAgainLater) {
  Start(/*fd_limit=*/1000);
  const int limit = NextFd() + 1;
  acceptor_.reset();
  Start(limit);  // room for one
  Connect();
  WaitForTaken(1);
  char byte = 0;
  EXPECT_EQ(read(Connect(), &byte, 1), 0);
  {
    MutexLock lock(mutex_);
    EXPECT_EQ(taken_.size(), 1u);
    while (asked_for_room_ == 0) changed_.Wait(mutex_);
    close(taken_.back());
    taken_.pop_back();
  }
  Connect();
  WaitForTaken(1);
}

TEST_F(AcceptorTest, GoesWithItsSockets) {
  Start(/*fd_limit=*/1000);
  acceptor_.reset();
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace engram
