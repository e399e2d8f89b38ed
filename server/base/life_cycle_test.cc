#include "server/base/life_cycle.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;

constexpr LifeState kStates[] = {LifeState::kLoading, LifeState::kServing, LifeState::kDraining,
                                 LifeState::kStopped};

TEST(LifeCycle, GoesForwardAndNeverBack) {
  for (const LifeState from : kStates) {
    for (const LifeState to : kStates) {
      LifeCycle life;
      EXPECT_EQ(life.state(), LifeState::kLoading);
      life.Advance(from);
      EXPECT_EQ(life.state(), from);
      life.Advance(to);
      EXPECT_EQ(life.state(), std::max(from, to)) << Name(from) << " to " << Name(to);
    }
  }
}

TEST(LifeCycle, OfManyThatAdvanceItTheFurthestCounts) {
  LifeCycle life;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&life, i] { life.Advance(kStates[i % 4]); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(life.state(), LifeState::kStopped);
}

TEST(LifeCycle, StatesHaveTheNamesThatOperatorsRead) {
  std::vector<std::string> names;
  for (const LifeState state : kStates) names.emplace_back(Name(state));
  EXPECT_THAT(names, ElementsAre("LOADING", "SERVING", "DRAINING", "STOPPED"));
}

// What systemd is told, over the socket that it would have given.
TEST(LifeCycle, TellsSystemdEachStateOnce) {
  const std::string path = absl::StrCat("/tmp/engram-notify-", getpid());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, path.c_str(), sizeof(name.sun_path) - 1);
  const int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  ASSERT_EQ(bind(socket_fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  LifeCycle life;
  life.SetStatusLine("loading a set");
  life.Advance(LifeState::kServing);
  life.Advance(LifeState::kServing);
  life.Advance(LifeState::kDraining);
  life.Advance(LifeState::kServing);
  life.Advance(LifeState::kStopped);
  unsetenv("NOTIFY_SOCKET");
  std::vector<std::string> told;
  char bytes[256];
  for (ssize_t count = 0; (count = recv(socket_fd, bytes, sizeof(bytes), 0)) > 0;) {
    told.emplace_back(bytes, count);
  }
  EXPECT_THAT(told, ElementsAre("STATUS=loading a set", "READY=1\nSTATUS=serving",
                                "STOPPING=1\nSTATUS=draining"));
  close(socket_fd);
  unlink(path.c_str());
}

}  // namespace
}  // namespace engram
