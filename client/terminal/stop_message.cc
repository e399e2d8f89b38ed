#include "client/terminal/stop_message.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace engram {
namespace {

// A path of the longest kind and a sentence; what is longer is cut.
constexpr size_t kMaxMessageBytes = 8192;

// A handler is the process's, so is what it says: nothing else reaches it. Written before the
// handlers are installed, and never while they are.
char message[kMaxMessageBytes];
size_t message_bytes = 0;

// Only what a handler may call.
void SayAndDie(int signal) {
  const int before = errno;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, message, message_bytes);
  errno = before;
  // The handler is gone by SA_RESETHAND: when this one returns, the signal ends the process.
  raise(signal);
}

void Install(int signal, struct sigaction& before) {
  struct sigaction action = {};
  action.sa_handler = SayAndDie;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(signal, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
}

}  // namespace

StopMessage::StopMessage(const std::string& text) {
  message_bytes = std::min(text.size(), kMaxMessageBytes);
  std::memcpy(message, text.data(), message_bytes);
  Install(SIGINT, interrupt_);
  Install(SIGTERM, terminate_);
}

StopMessage::~StopMessage() {
  sigaction(SIGINT, &interrupt_, nullptr);
  sigaction(SIGTERM, &terminate_, nullptr);
}

}  // namespace engram
