// Clients of an engramd that takes its time to answer new connections, as it does on a machine that
// is busy: they wait for it.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

// Many times what gRPC gives an attempt to connect where it is told to try again soon.
constexpr absl::Duration kDelay = absl::Milliseconds(400);

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  EXPECT_LT(path.size(), sizeof(address.sun_path));
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

// Carries connections to `path` on to `behind`, each a while after it was made.
class SlowFront {
 public:
  SlowFront(const std::string& path, std::string behind) : behind_(std::move(behind)) {
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = AddressOf(path);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    acceptor_ = std::thread([this] { Accept(); });
  }
  // Clients are gone.
  ~SlowFront() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& connection : connections_) connection.join();
    close(listener_);
  }
  SlowFront(const SlowFront&) = delete;
  SlowFront& operator=(const SlowFront&) = delete;

 private:
  void Accept() {
    while (true) {
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      connections_.emplace_back([this, client] { Carry(client); });
    }
  }
  void Carry(int client) const {
    absl::SleepFor(kDelay);
    const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = AddressOf(behind_);
    EXPECT_EQ(connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    std::array<pollfd, 2> ends = {pollfd{client, POLLIN, 0}, pollfd{server, POLLIN, 0}};
    while (poll(ends.data(), ends.size(), -1) > 0) {
      if (ends[0].revents != 0 && !Pass(client, server)) break;
      if (ends[1].revents != 0 && !Pass(server, client)) break;
    }
    close(client);
    close(server);
  }
  // What is there to read; false when either end has closed.
  static bool Pass(int from, int to) {
    std::array<char, 65536> bytes;
    const ssize_t got = recv(from, bytes.data(), bytes.size(), 0);
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t step = send(to, bytes.data() + sent, got - sent, MSG_NOSIGNAL);
      if (step < 0) return false;
      sent += step;
    }
    return got > 0;
  }

  const std::string behind_;
  int listener_ = -1;
  std::thread acceptor_;
  std::vector<std::thread> connections_;
};

TEST(SlowConnect, EveryConnectionIsWaitedFor) {
  const ScratchDirectory scratch;
  PackSmallSet("deepseek-v4.1-flash", 500, scratch / "set");
  EngramdProcess engramd({"--table-set", scratch / "set", "--listen", "unix:" + (scratch / "s")});
  engramd.WaitUntilServing();
  const SlowFront front(scratch / "front", scratch / "s");
  for (const std::string mode : {"stream", "unary"}) {
    const auto client = Client::Attach("grpc:unix:" + (scratch / "front"),
                                       {.table_set = {}, .mode = mode, .connections = 3});
    ASSERT_TRUE(client.ok()) << mode << ": " << client.status();
    const std::vector<int32_t> ids = RealTokenIds(3);
    for (int i = 0; i < 6; ++i) {  // connections take turns
      const auto rows = LookUp(**client, ids, RealClock().Now() + absl::Seconds(60));
      ASSERT_TRUE(rows.ok()) << mode << ", " << i << ": " << rows.status();
      EXPECT_TRUE(*rows == ExpectedRows((*client)->table_set(), (*client)->addresser(), ids));
    }
  }
}

}  // namespace
}  // namespace engram::integration
