#include "client/terminal/stop_message.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "gtest/gtest.h"

namespace engram {
namespace {

// What a child says on standard error that sends itself `signal`, and how it ends.
std::string SaidBy(int signal, int* ended, bool ignored, bool over) {
  int pipe_ends[2];
  EXPECT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    std::signal(signal, ignored ? SIG_IGN : SIG_DFL);
    {
      const StopMessage message("stopped: go on\n");
      if (!over) raise(signal);
    }
    if (over) raise(signal);
    _exit(7);
  }
  close(pipe_ends[1]);
  std::string said(100, '\0');
  const ssize_t n = read(pipe_ends[0], said.data(), said.size());
  said.resize(n > 0 ? static_cast<size_t>(n) : 0);
  close(pipe_ends[0]);
  EXPECT_EQ(waitpid(child, ended, 0), child);
  return said;
}

TEST(StopMessageTest, IsSaidAndTheSignalEndsTheProcess) {
  for (const int signal : {SIGINT, SIGTERM}) {
    int ended = 0;
    EXPECT_EQ(SaidBy(signal, &ended, false, false), "stopped: go on\n");
    EXPECT_TRUE(WIFSIGNALED(ended));
    EXPECT_EQ(WTERMSIG(ended), signal);
  }
}

TEST(StopMessageTest, AnIgnoredSignalStaysIgnored) {
  int ended = 0;
  EXPECT_EQ(SaidBy(SIGINT, &ended, true, false), "");
  EXPECT_TRUE(WIFEXITED(ended));
}

TEST(StopMessageTest, SaysNothingOnceItIsOver) {
  int ended = 0;
  EXPECT_EQ(SaidBy(SIGTERM, &ended, false, true), "");
  EXPECT_TRUE(WIFSIGNALED(ended));
}

}  // namespace
}  // namespace engram
