#include "client/transport/grpc/connect_probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

TEST(WhyNoConnection, SaysWhatTheKernelSays) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const at = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(socket.get(), at, sizeof(address)), 0);
  socklen_t length = sizeof(address);
  ASSERT_EQ(getsockname(socket.get(), at, &length), 0);
  const std::string place = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  // The port is taken, and nobody listens.
  EXPECT_EQ(WhyNoConnection(place, absl::Seconds(30)), "Connection refused");
  ASSERT_EQ(listen(socket.get(), 1), 0);
  EXPECT_EQ(WhyNoConnection(place, absl::Seconds(30)), "");
  EXPECT_EQ(WhyNoConnection("unix:/no/such/socket", absl::Seconds(30)),
            "No such file or directory");
}

TEST(WhyNoConnection, AsksNoResolver) {
  for (const char* place : {"localhost:1", "no-such-host.invalid:1", "nothing"}) {
    EXPECT_EQ(WhyNoConnection(place, absl::Seconds(30)), "") << place;
  }
}

}  // namespace
}  // namespace engram
