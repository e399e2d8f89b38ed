// The real programs, run as children of a test: engramd as a process to talk to, engram as a shell
// line.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "memstore/base/mutex.h"

namespace engram::integration {

// An engramd, without a time as lame duck unless the flags ask for one. Killed, if it still runs,
// when this goes. Thread-safe.
class EngramdProcess {
 public:
  // `through`: a command that it is run by, as in {"prlimit", "--nofile=128:128"}.
  explicit EngramdProcess(const std::vector<std::string>& flags,
                          const std::vector<std::string>& through = {});
  ~EngramdProcess();
  EngramdProcess(const EngramdProcess&) = delete;
  EngramdProcess& operator=(const EngramdProcess&) = delete;

  // The first line of the log that holds `text`, waited for; nothing when the log ends before it.
  std::optional<std::string> WaitForLine(absl::string_view text);
  // Waits until it serves and returns the address of its `index`th --listen; a test failure and ""
  // when it ends before it does.
  std::string WaitUntilServing(size_t index = 0);

  pid_t pid() const { return pid_; }
  // SIGSTOP: returns when every thread has stopped; until then one may still answer.
  void Signal(int signal) const;
  bool IsRunning();
  // Waits for the end: the exit code, or minus the signal that ended it.
  int WaitForEnd();
  std::string Log();

 private:
  void ReadLog();
  // Waited for; "" when the log ends before it.
  std::string AddressInLog(size_t index);
  void Reap(int options);

  pid_t pid_ = -1;
  int log_fd_ = -1;
  std::thread reader_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  bool log_ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<int> end_;
};

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};
// Runs `line` in bash with $ENGRAM as the engram program.
Outcome RunShell(const std::string& line);

}  // namespace engram::integration
