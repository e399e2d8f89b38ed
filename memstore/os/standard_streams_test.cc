#include "memstore/os/standard_streams.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "gtest/gtest.h"

namespace engram {
namespace {

// The exit code of a child that does `work`.
int InChild(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int AccessOf(int number) { return fcntl(number, F_GETFL) & O_ACCMODE; }

TEST(StandardStreams, WhatIsClosedIsOpenedSoThatItCannotBeUsed) {
  EXPECT_EQ(InChild([] {
              for (int number = 0; number <= 2; ++number) close(number);
              EnsureStandardStreams("test");
              char byte = 'x';
              if (AccessOf(0) != O_WRONLY || read(0, &byte, 1) >= 0) return 1;
              if (AccessOf(1) != O_RDONLY || write(1, &byte, 1) >= 0) return 2;
              if (AccessOf(2) != O_WRONLY || write(2, &byte, 1) != 1) return 3;
              if (open("/dev/null", O_RDONLY) <= STDERR_FILENO) return 4;
              if (CheckStandardInput().ok() || CheckStandardOutput().ok()) return 5;
              return PrintToEnd("text").ok() ? 6 : 0;
            }),
            0);
}

TEST(StandardStreams, WhatIsOpenStays) {
  EXPECT_EQ(InChild([] {
              int pipes[2];
              if (pipe(pipes) != 0) return 1;
              dup2(pipes[0], 0);
              dup2(pipes[1], 1);
              close(2);
              EnsureStandardStreams("test");
              char byte = 'x';
              if (!CheckStandardInput().ok() || !CheckStandardOutput().ok()) return 2;
              if (write(1, &byte, 1) != 1 || read(0, &byte, 1) != 1) return 3;
              return PrintToEnd("text").ok() && AccessOf(2) == O_WRONLY ? 0 : 4;
            }),
            0);
}

TEST(StandardStreams, WhatDidNotGetThereIsAnError) {
  EXPECT_EQ(InChild([] {
              const int full = open("/dev/full", O_WRONLY);
              if (full < 0 || dup2(full, 1) != 1) return 1;
              if (PrintToEnd("text").ok()) return 2;
              // Nor does it afterwards: a part is missing.
              if (dup2(open("/dev/null", O_WRONLY), 1) != 1) return 3;
              return PrintToEnd("").ok() ? 4 : 0;
            }),
            0);
}

}  // namespace
}  // namespace engram
