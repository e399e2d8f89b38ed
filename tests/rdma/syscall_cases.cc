// Who polls makes no system call: counted by the kernel itself (raw_syscalls:sys_enter in tracefs).
//
// With this software device posting is a system call, and so is arming a queue before sleeping;
// taking completions is none. A thread that is held up by others makes a few more than it has to,
// so the least of some tries counts: code that makes a call each time round makes hundreds in every
// one.
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

using integration::EngramdProcess;

constexpr char kTracing[] = "/sys/kernel/tracing";
constexpr int kTries = 20;

bool WriteTracing(const std::string& file, const std::string& text) {
  std::ofstream out(std::string(kTracing) + "/" + file);
  out << text;
  out.flush();
  return out.good();
}

// System calls of one thread while `work` runs, and their numbers to `which`; -1 where the kernel
// does not count them.
int64_t SystemCalls(pid_t thread, const std::function<void()>& work, std::string* which = nullptr) {
  if (!std::filesystem::exists(std::string(kTracing) + "/events")) {
    mount("nodev", kTracing, "tracefs", 0, nullptr);
  }
  const std::string event = "events/raw_syscalls/sys_enter/";
  if (!WriteTracing(event + "filter", absl::StrCat("common_pid == ", thread))) return -1;
  if (!WriteTracing("trace", "")) return -1;
  if (!WriteTracing(event + "enable", "1")) return -1;
  work();
  if (!WriteTracing(event + "enable", "0")) return -1;
  std::ifstream trace(std::string(kTracing) + "/trace");
  int64_t calls = 0;
  for (std::string line; std::getline(trace, line);) {
    // Of this thread, turning the count off is among them.
    const size_t at = line.find("sys_enter: NR ");
    if (at == line.npos) continue;
    // A thread's name, which this binary's operator new asks for (transport_cases.cc).
    if (std::atoi(line.c_str() + at + 14) == SYS_prctl) continue;
    ++calls;
    if (which != nullptr) absl::StrAppend(which, " ", std::atoi(line.c_str() + at + 14));
  }
  return calls;
}

pid_t ThreadNamed(pid_t process, const std::string& name) {
  const std::string tasks = absl::StrCat("/proc/", process, "/task");
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::ifstream comm(task.path() / "comm");
    std::string is;
    std::getline(comm, is);
    if (is == name) return std::atoi(task.path().filename().c_str());
  }
  return -1;
}

class RdmaPollingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("RDMA_GUEST") == nullptr) GTEST_SKIP() << "counts in the guest's kernel alone";
    // What turning the count off costs this thread.
    const pid_t self = static_cast<pid_t>(gettid());
    own_ = SystemCalls(self, [] {});
    if (own_ < 0) GTEST_SKIP() << "this kernel counts no system calls (tracefs)";
    // And it counts: a call that is made is seen.
    ASSERT_EQ(SystemCalls(self, [] { syscall(SYS_getppid); }), own_ + 1);
  }
  int64_t own_ = 0;
};

TEST_F(RdmaPollingTest, AClientThatWaitsMakesNoSystemCallALook) {
  const SetDirectory set;
  EngramdProcess engramd({"--table-set", set.path(), "--listen", "127.0.0.1:0", "--rdma-device",
                          Device(), "--load-threads", "2"});
  auto transport =
      RdmaTransport::Attach(engramd.WaitUntilServing(), "", {.spin = absl::Milliseconds(10)});
  ASSERT_TRUE(transport.ok()) << transport.status();
  Batch batch(16);
  ASSERT_TRUE(batch.Register(**transport).ok());
  ASSERT_TRUE(batch.LookUp(**transport).ok());
  // An owner that does not answer is waited for.
  engramd.Signal(SIGSTOP);
  absl::SleepFor(absl::Milliseconds(200));
  std::string which;
  int64_t least = INT64_MAX;
  // Posting the request is one, and asking whether others want the core a few (run_delay.h): a wait
  // of 7 ms has thousands of looks.
  constexpr int64_t kMost = 1 + 6;
  for (int i = 0; i < kTries && least > own_ + kMost; ++i) {
    absl::StrAppend(&which, ";");
    const auto submit_and_wait = [&] {
      const auto ticket = (*transport)
                              ->Submit({.layers = batch.layers(),
                                        .deadline = RealClock().Now() + absl::Milliseconds(7)});
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      EXPECT_EQ((*transport)->Wait(*ticket).code(), absl::StatusCode::kDeadlineExceeded);
    };
    least = std::min(least, SystemCalls(static_cast<pid_t>(gettid()), submit_and_wait, &which));
  }
  engramd.Signal(SIGCONT);
  EXPECT_LE(least - own_, kMost) << which;
}

TEST_F(RdmaPollingTest, AnOwnerMakesAFewToPostAndToSleepAndNoneWhileItLooks) {
  const SetDirectory set;
  EngramdProcess engramd({"--table-set", set.path(), "--listen", "127.0.0.1:0", "--rdma-device",
                          Device(), "--load-threads", "2", "--spin-us", "1000"});
  auto transport = RdmaTransport::Attach(engramd.WaitUntilServing(), "", {});
  ASSERT_TRUE(transport.ok()) << transport.status();
  Batch batch(16);
  ASSERT_TRUE(batch.Register(**transport).ok());
  ASSERT_TRUE(batch.LookUp(**transport).ok());
  const pid_t poller = ThreadNamed(engramd.pid(), "engram-rdma/0");
  ASSERT_GT(poller, 0);
  // Each is posted (1) and followed by a millisecond of looking, then by arming (1) and sleeping (1
  // to 4).
  constexpr int64_t kLookups = 5, kMost = 10 * kLookups;
  int64_t least = INT64_MAX;
  std::string which;
  for (int i = 0; i < kTries && least > kMost; ++i) {
    absl::StrAppend(&which, ";");
    ASSERT_TRUE(batch.LookUp(**transport).ok());  // it is awake
    least = std::min(least, SystemCalls(
                                poller,
                                [&] {
                                  for (int j = 0; j < kLookups; ++j) {
                                    ASSERT_TRUE(batch.LookUp(**transport).ok());
                                  }
                                },
                                &which));
  }
  EXPECT_LE(least, kMost) << which;
  EXPECT_GE(least, kLookups) << which;
}

}  // namespace
}  // namespace engram::rdma
