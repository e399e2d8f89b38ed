// What a command says before it dies of Ctrl-C (SIGINT) or SIGTERM.
//
// The process dies of the signal at once, as without this, and nothing is cleaned up: for work that
// can be killed at any moment. A signal that was ignored stays ignored (nohup, a shell's &). One at
// a time in a process, used by one thread; signals may reach any thread.
#pragma once

#include <csignal>
#include <string>

namespace engram {

class StopMessage {
 public:
  // `text` goes to standard error as it is.
  explicit StopMessage(const std::string& text);
  ~StopMessage();  // as it was before
  StopMessage(const StopMessage&) = delete;
  StopMessage& operator=(const StopMessage&) = delete;

 private:
  struct sigaction interrupt_ = {}, terminate_ = {};
};

}  // namespace engram
