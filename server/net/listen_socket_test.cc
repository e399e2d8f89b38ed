#include "server/net/listen_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// A directory of the test's own with a path short enough for a socket.
class ListenSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/engram-listen-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    unlink(SocketPath().c_str());
    rmdir(directory_.c_str());
  }
  std::string SocketPath() const { return directory_ + "/s"; }
  ListenAddress Unix() const { return ParseListenAddress("unix:" + SocketPath()).value(); }

  // A socket that listens at SocketPath().
  int Listen() const {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strcpy(name.sun_path, SocketPath().c_str());
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    EXPECT_EQ(listen(fd, 1), 0);
    return fd;
  }

  std::string directory_;
};

TEST_F(ListenSocketTest, NamesAPortThatIsInUse) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(name);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&name), length), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length), 0);
  const std::string text = absl::StrCat("127.0.0.1:", ntohs(name.sin_port));
  const absl::Status status = CheckCanListen(ParseListenAddress(text).value());
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Message(status), HasSubstr("cannot listen on " + text + ": it is in use"));
  close(fd);
  EXPECT_TRUE(CheckCanListen(ParseListenAddress(text).value()).ok());
}

TEST_F(ListenSocketTest, NamesAnAddressThatIsNotOfThisMachine) {
  // 192.0.2.0/24 is for documentation: no machine has it.
  const absl::Status status = CheckCanListen(ParseListenAddress("192.0.2.1:7300").value());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("cannot listen on 192.0.2.1:7300"));
}

TEST_F(ListenSocketTest, ASocketFileIsReplacedOnlyWhenNobodyListens) {
  EXPECT_TRUE(CheckCanListen(Unix()).ok());
  const int fd = Listen();
  EXPECT_EQ(CheckCanListen(Unix()).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0);
  close(fd);
  EXPECT_TRUE(CheckCanListen(Unix()).ok());
  EXPECT_NE(access(SocketPath().c_str(), F_OK), 0);
}

// Who listens and has more connections waiting than it takes listens all the same.
TEST_F(ListenSocketTest, ASocketWhoseOwnerIsFloodedIsInUse) {
  const int fd = Listen();
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strcpy(name.sun_path, SocketPath().c_str());
  std::vector<int> waiting;
  int connected = 0;
  while (connected == 0) {
    waiting.push_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    connected = connect(waiting.back(), reinterpret_cast<sockaddr*>(&name), sizeof(name));
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(CheckCanListen(Unix()).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0);
  for (const int one : waiting) close(one);
  close(fd);
}

TEST_F(ListenSocketTest, LeavesAFileThatIsNoSocketAlone) {
  std::ofstream(SocketPath()) << "mine";
  const absl::Status status = CheckCanListen(Unix());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("no socket"));
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0);
}

TEST_F(ListenSocketTest, NamesADirectoryThatIsNotThere) {
  const absl::Status status =
      CheckCanListen(ParseListenAddress("unix:" + directory_ + "/no/s").value());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("directory " + directory_ + "/no: No such file"));
  EXPECT_THAT(Message(status), HasSubstr("make one"));
}

TEST_F(ListenSocketTest, ASocketsFolderIsLookedAtAlone) {
  const int fd = Listen();
  EXPECT_TRUE(CheckSocketFolder(Unix()).ok());
  close(fd);
  EXPECT_TRUE(CheckSocketFolder(Unix()).ok());
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0) << "a check removed a file";
  EXPECT_TRUE(CheckSocketFolder(ParseListenAddress("192.0.2.1:7300").value()).ok());
  const absl::Status missing =
      CheckSocketFolder(ParseListenAddress("unix:" + directory_ + "/no/s").value());
  EXPECT_THAT(Message(missing), HasSubstr("directory " + directory_ + "/no: No such file"));
}

TEST_F(ListenSocketTest, AHostWithSeveralAddressesHasOnePort) {
  addrinfo* known = nullptr;
  if (getaddrinfo("localhost", nullptr, nullptr, &known) != 0) {
    GTEST_SKIP() << "this machine's /etc/hosts does not know localhost";
  }
  freeaddrinfo(known);
  auto bound = ListenSocket::Bind(ParseListenAddress("localhost:0").value());
  ASSERT_TRUE(bound.ok()) << bound.status();
  ASSERT_FALSE(bound->empty());
  EXPECT_NE(bound->front().address().port, "0");
  for (ListenSocket& socket : *bound) {
    EXPECT_EQ(socket.address().port, bound->front().address().port);
    EXPECT_TRUE(socket.Listen().ok());
  }
}

TEST_F(ListenSocketTest, OfTwoThatBoundAPortOneListens) {
  auto first = ListenSocket::Bind(ParseListenAddress("127.0.0.1:0").value());
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = ListenSocket::Bind(first->front().address());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(first->front().Listen().ok());
  EXPECT_EQ(second->front().Listen().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(ListenSocketTest, TakesItsSocketFileAwayWhenItGoes) {
  {
    auto bound = ListenSocket::Bind(Unix());
    ASSERT_TRUE(bound.ok()) << bound.status();
    ASSERT_TRUE(bound->front().Listen().ok());
    EXPECT_EQ(CheckCanListen(Unix()).code(), absl::StatusCode::kAlreadyExists);
  }
  EXPECT_NE(access(SocketPath().c_str(), F_OK), 0);
}

TEST_F(ListenSocketTest, LeavesTheSocketFileOfItsSuccessor) {
  int successor = -1;
  {
    auto bound = ListenSocket::Bind(Unix());
    ASSERT_TRUE(bound.ok()) << bound.status();
    ASSERT_EQ(unlink(SocketPath().c_str()), 0);
    successor = Listen();
  }
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0);
  close(successor);
}

TEST_F(ListenSocketTest, ASocketOfPacketsHasItsModeWhateverTheUmask) {
  const mode_t before = umask(0777);
  auto bound = ListenSocket::BindPackets(SocketPath());
  umask(before);
  ASSERT_TRUE(bound.ok()) << bound.status();
  struct stat file;
  ASSERT_EQ(stat(SocketPath().c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0660u);
  int type = 0;
  socklen_t length = sizeof(type);
  ASSERT_EQ(getsockopt(bound->fd(), SOL_SOCKET, SO_TYPE, &type, &length), 0);
  EXPECT_EQ(type, SOCK_SEQPACKET);
  ASSERT_TRUE(bound->Listen().ok());
  EXPECT_EQ(ListenSocket::BindPackets(SocketPath()).status().code(),
            absl::StatusCode::kAlreadyExists);
  { const ListenSocket gone = *std::move(bound); }
  EXPECT_NE(access(SocketPath().c_str(), F_OK), 0);
}

TEST_F(ListenSocketTest, ItsFileIsForItsGroupWhateverTheUmask) {
  for (const mode_t mask : {0, 022, 0777}) {
    const mode_t before = umask(mask);
    const auto bound = ListenSocket::Bind(Unix());
    umask(before);
    ASSERT_TRUE(bound.ok()) << bound.status();
    struct stat file;
    ASSERT_EQ(stat(SocketPath().c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 07777, kUnixSocketMode) << mask;
  }
}

TEST_F(ListenSocketTest, ASocketOfPacketsReplacesWhatAKilledProcessLeft) {
  close(Listen());
  EXPECT_TRUE(ListenSocket::BindPackets(SocketPath()).ok());
  EXPECT_EQ(ListenSocket::BindPackets(std::string(200, 'a')).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ListenSocket::BindPackets("").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace engram
