#include "client/transport/grpc/connect_probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A port of this machine that is taken.
class PortTest : public ::testing::Test {
 protected:
  PortTest() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const at = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(socket_.get(), at, sizeof(address)), 0);
    socklen_t length = sizeof(address);
    EXPECT_EQ(getsockname(socket_.get(), at, &length), 0);
    port_ = absl::StrCat(ntohs(address.sin_port));
  }
  // Whoever connects next gets `answer`, once it has said something, and the end.
  std::thread Answer(const std::string& answer) const {
    return std::thread([this, answer] {
      const FileDescriptor peer(accept(socket_.get(), nullptr, nullptr));
      char asked[256];
      EXPECT_GT(recv(peer.get(), asked, sizeof(asked), 0), 0);
      const ssize_t sent = send(peer.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      EXPECT_EQ(sent, static_cast<ssize_t>(answer.size()));
    });
  }

  const FileDescriptor socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string port_;
};

TEST_F(PortTest, NobodyThereIsSaidAsTheKernelSays) {
  const std::string place = "127.0.0.1:" + port_;
  // The port is taken, and nobody listens.
  EXPECT_EQ(WhyNoConnection(place, absl::Seconds(30)), "Connection refused");
  EXPECT_TRUE(CheckNoOtherServer(place, "--listen", absl::Seconds(30)).ok());
  ASSERT_EQ(listen(socket_.get(), 1), 0);
  EXPECT_EQ(WhyNoConnection(place, absl::Seconds(30)), "");
  EXPECT_EQ(WhyNoConnection("unix:/no/such/socket", absl::Seconds(30)),
            "No such file or directory");
}

TEST_F(PortTest, AnHttpServerIsNoGrpcServer) {
  ASSERT_EQ(listen(socket_.get(), 1), 0);
  for (const std::string host : {"127.0.0.1:", "localhost:"}) {
    std::thread server = Answer("HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n");
    const absl::Status status = CheckNoOtherServer(host + port_, "--listen", absl::Seconds(30));
    server.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(host + port_), HasSubstr("HTTP/1, not gRPC"),
                      HasSubstr("--admin-listen"), HasSubstr("Give the address of --listen")));
  }
  // SETTINGS, as gRPC's server begins; nothing; and less than tells.
  for (const std::string& answer :
       {std::string("\0\0\0\4\0\0\0\0\0", 9), std::string(), std::string("HTTP")}) {
    std::thread server = Answer(answer);
    EXPECT_TRUE(CheckNoOtherServer("127.0.0.1:" + port_, "--listen", absl::Seconds(30)).ok());
    server.join();
  }
}

TEST(CheckNoOtherServer, ASocketOfSharedMemoryIsNone) {
  char folder[] = "/tmp/connect_probe_test_XXXXXX";  // a socket's path is short
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = absl::StrCat(folder, "/shm.sock");
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(socket.get(), 1), 0);
  const absl::Status status = CheckNoOtherServer("unix:" + path, "--listen", absl::Seconds(30));
  std::filesystem::remove_all(folder);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("--shm-socket"), HasSubstr("Give the address of --listen")));
}

TEST(WhyNoConnection, AsksNoResolver) {
  for (const char* place : {"localhost:1", "no-such-host.invalid:1", "nothing"}) {
    EXPECT_EQ(WhyNoConnection(place, absl::Seconds(30)), "") << place;
    EXPECT_TRUE(CheckNoOtherServer(place, "--listen", absl::Seconds(30)).ok()) << place;
  }
}

}  // namespace
}  // namespace engram
