#include "server/listen_address.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// A directory of the test's own with a path short enough for a socket.
class ListenAddressTest : public ::testing::Test {
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

TEST_F(ListenAddressTest, TakesBothForms) {
  for (const std::string text : {"127.0.0.1:7300", "localhost:0", "[::1]:65535", "unix:/run/e"}) {
    const auto address = ParseListenAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->Text(), text);
    EXPECT_EQ(address->is_unix(), text[0] == 'u');
  }
}

TEST_F(ListenAddressTest, RefusesTheRestNamingTheForms) {
  const std::string long_path = "unix:/" + std::string(200, 'x');
  for (const std::string& text :
       {std::string(""), std::string("host"), std::string(":7300"), std::string("host:"),
        std::string("host:65536"), std::string("host:-1"), std::string("::1:7300"),
        std::string("host:http"), std::string("unix:"), long_path}) {
    const auto address = ParseListenAddress(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(address.status()), HasSubstr("write HOST:PORT or unix:PATH"));
    EXPECT_THAT(Message(address.status()), HasSubstr(absl::StrCat("\"", text, "\"")));
  }
}

TEST_F(ListenAddressTest, NamesAPortThatIsInUse) {
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

TEST_F(ListenAddressTest, NamesAnAddressThatIsNotOfThisMachine) {
  // 192.0.2.0/24 is for documentation: no machine has it.
  const absl::Status status = CheckCanListen(ParseListenAddress("192.0.2.1:7300").value());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("cannot listen on 192.0.2.1:7300"));
}

TEST_F(ListenAddressTest, ASocketFileIsReplacedOnlyWhenNobodyListens) {
  EXPECT_TRUE(CheckCanListen(Unix()).ok());
  const int fd = Listen();
  EXPECT_EQ(CheckCanListen(Unix()).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0);
  close(fd);
  EXPECT_TRUE(CheckCanListen(Unix()).ok());
  EXPECT_NE(access(SocketPath().c_str(), F_OK), 0);
}

TEST_F(ListenAddressTest, LeavesAFileThatIsNoSocketAlone) {
  std::ofstream(SocketPath()) << "mine";
  const absl::Status status = CheckCanListen(Unix());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("no socket"));
  EXPECT_EQ(access(SocketPath().c_str(), F_OK), 0);
}

TEST_F(ListenAddressTest, NamesADirectoryThatIsNotThere) {
  const absl::Status status =
      CheckCanListen(ParseListenAddress("unix:" + directory_ + "/no/s").value());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("directory " + directory_ + "/no: No such file"));
}

}  // namespace
}  // namespace engram
