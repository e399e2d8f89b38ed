#include "client/cli/support/addresses.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/posix_file.h"

namespace engram::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// In a directory whose path is short enough for a socket's.
class SocketTest : public ::testing::Test {
 protected:
  SocketTest() {
    std::string name = "/tmp/engram-addresses-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~SocketTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  FileDescriptor Bind(const std::string& name, int type, bool listens = true) const {
    FileDescriptor socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, Path(name).c_str(), sizeof(address.sun_path) - 1);
    const auto* const at = reinterpret_cast<const sockaddr*>(&address);
    EXPECT_EQ(bind(socket.get(), at, sizeof(address)), 0);
    if (listens) {
      EXPECT_EQ(listen(socket.get(), 1), 0);
    }
    return socket;
  }

  std::string directory_;
};

TEST_F(SocketTest, ASocketsTypeTellsSharedMemoryFromGrpc) {
  const FileDescriptor shm = Bind("m", SOCK_SEQPACKET), grpc = Bind("g", SOCK_STREAM);
  EXPECT_EQ(WholeTarget(Path("m")).value(), "shm:" + Path("m"));
  EXPECT_EQ(WholeTarget(Path("g")).value(), "grpc:unix:" + Path("g"));
  EXPECT_EQ(WholeTarget("unix:" + Path("g")).value(), "grpc:unix:" + Path("g"));
  EXPECT_EQ(WholeTarget("unix:" + Path("m")).value(), "shm:" + Path("m"));
  // One that takes no more connections is what it is.
  for (int i = 0; i < 20; ++i) EXPECT_EQ(WholeTarget(Path("m")).value(), "shm:" + Path("m"));
}

// A path from here needs no ./ before it: nothing else has a slash, or this ending, and no colon.
TEST_F(SocketTest, APathFromHereIsASockets) {
  const FileDescriptor shm = Bind("m.sock", SOCK_SEQPACKET), grpc = Bind("g", SOCK_STREAM);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path("/tmp");
  const std::string folder = std::filesystem::path(directory_).filename();
  EXPECT_EQ(WholeTarget(folder + "/g").value_or(""), "grpc:unix:" + folder + "/g");
  EXPECT_EQ(WholeTarget("unix:" + folder + "/g").value_or(""), "grpc:unix:" + folder + "/g");
  EXPECT_EQ(AdminAddress(folder + "/g").value_or(""), "unix:" + folder + "/g");
  EXPECT_THAT(std::string(WholeTarget(folder + "/").status().message()),
              HasSubstr("embedded:" + folder));
  std::filesystem::current_path(directory_);
  EXPECT_EQ(WholeTarget("m.sock").value_or(""), "shm:m.sock");
  std::filesystem::current_path(before);
}

TEST_F(SocketTest, WhatCannotBeToldIsRefusedWithBothForms) {
  const FileDescriptor silent = Bind("silent", SOCK_SEQPACKET, /*listens=*/false);
  for (const std::string& path : {Path("none"), Path("silent"), "/" + std::string(200, 'x')}) {
    const auto target = WholeTarget(path);
    EXPECT_EQ(target.status().code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(std::string(target.status().message()),
                AllOf(HasSubstr("shm:" + path.substr(0, 100)),
                      HasSubstr("grpc:unix:" + path.substr(0, 100))));
  }
  EXPECT_THAT(std::string(WholeTarget(directory_).status().message()),
              HasSubstr("embedded:" + directory_));
}

TEST(WholeTarget, AHostAndAPortAreGrpc) {
  for (const std::string place : {"127.0.0.1:7300", "localhost:1", "[::1]:7300", "tables:7300"}) {
    EXPECT_EQ(WholeTarget(place).value(), "grpc:" + place);
  }
}

TEST(WholeTarget, WholeTargetsStayAsTheyAre) {
  for (const std::string target : {"grpc:127.0.0.1:7300", "shm:7300", "embedded:/t", "rdma:h:1",
                                   "auto:h:1", "grpc:unix:/s", "shm:/s"}) {
    EXPECT_EQ(WholeTarget(target).value(), target);
  }
}

TEST(WholeTarget, TheRestIsRefused) {
  for (const std::string target : {"grpc:7300", "auto:7300", "http://h:7300", "grpc://h:7300", "h",
                                   "", "https://h", "tables/v41", "//h/x", "x/s:1", "dns:7300"}) {
    EXPECT_EQ(WholeTarget(target).status().code(), absl::StatusCode::kInvalidArgument) << target;
  }
}

TEST(AdminAddress, TakesWhatEngramdListensOn) {
  EXPECT_EQ(AdminAddress("127.0.0.1:7302").value(), "127.0.0.1:7302");
  EXPECT_EQ(AdminAddress("grpc:h:1").value(), "h:1");
  EXPECT_EQ(AdminAddress("unix:/run/a.sock").value(), "unix:/run/a.sock");
  EXPECT_EQ(AdminAddress("/run/a.sock").value(), "unix:/run/a.sock");
  EXPECT_EQ(AdminAddress("./a.sock").value(), "unix:./a.sock");
  EXPECT_EQ(AdminAddress("a.sock").value(), "unix:a.sock");
  EXPECT_EQ(AdminAddress("x/a").value(), "unix:x/a");
  EXPECT_EQ(AdminAddress("grpc:/run/a.sock").value(), "unix:/run/a.sock");
}

TEST(AdminAddress, RefusesTheRestWithTheFormToWrite) {
  for (const std::string text : {"", "host", "7302", "unix:", "//x/a.sock", "http://h", "h:0"}) {
    const auto address = AdminAddress(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("HOST:PORT"));
  }
  EXPECT_THAT(std::string(AdminAddress("http://h:7302/").status().message()),
              HasSubstr("did you mean h:7302?"));
  EXPECT_THAT(std::string(AdminAddress("grpc://h:7302").status().message()),
              HasSubstr("did you mean h:7302?"));
}

TEST(CheckHostIsKnown, ANumberOrASocketNeedsNoResolver) {
  for (const char* place : {"127.0.0.1:1", "[::1]:1", "unix:/none"}) {
    EXPECT_TRUE(CheckHostIsKnown(place).ok()) << place;
  }
}

// RFC 6761: such a name is never there. A resolver that does not answer at all is no answer.
TEST(CheckHostIsKnown, ANameThatIsNotThereIsNamed) {
  const absl::Status status = CheckHostIsKnown("no-such-host.invalid:7300");
  if (status.ok()) GTEST_SKIP() << "the resolver does not answer here";
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace engram::cli
