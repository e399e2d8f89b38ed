#include "tests/integration/programs.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

extern char** environ;

namespace engram::integration {
namespace {

constexpr char kEngramd[] = "server/engramd";
constexpr char kEngram[] = "client/cli/engram";

int ExitCode(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

}  // namespace

EngramdProcess::EngramdProcess(const std::vector<std::string>& flags,
                               const std::vector<std::string>& through) {
  std::vector<std::string> arguments = through;
  arguments.push_back(kEngramd);
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  if (std::find(flags.begin(), flags.end(), "--lame-duck-s") == flags.end()) {
    arguments.insert(arguments.end(), {"--lame-duck-s", "0"});
  }
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int pipe_fds[2];
  EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
  EXPECT_EQ(posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_fds[1]);
  log_fd_ = pipe_fds[0];
  reader_ = std::thread([this] { ReadLog(); });
}

EngramdProcess::~EngramdProcess() {
  if (IsRunning()) {
    Signal(SIGKILL);
    Reap(0);
  }
  reader_.join();
  close(log_fd_);
}

void EngramdProcess::ReadLog() {
  std::string rest;
  char bytes[4096];
  ssize_t count = 0;
  while ((count = read(log_fd_, bytes, sizeof(bytes))) > 0) {
    rest.append(bytes, count);
    MutexLock lock(mutex_);
    for (size_t end = 0; (end = rest.find('\n')) != std::string::npos; rest.erase(0, end + 1)) {
      lines_.push_back(rest.substr(0, end));
    }
    changed_.NotifyAll();
  }
  MutexLock lock(mutex_);
  log_ended_ = true;
  changed_.NotifyAll();
}

std::optional<std::string> EngramdProcess::WaitForLine(absl::string_view text) {
  MutexLock lock(mutex_);
  while (true) {
    const auto line = std::find_if(lines_.begin(), lines_.end(), [&](const std::string& one) {
      return absl::StrContains(one, text);
    });
    if (line != lines_.end()) return *line;
    if (log_ended_) return std::nullopt;
    changed_.Wait(mutex_);
  }
}

std::string EngramdProcess::WaitUntilServing(size_t index) {
  std::string address = AddressInLog(index);
  if (address.empty()) ADD_FAILURE() << "engramd does not serve: " << Log();
  return address;
}

std::string EngramdProcess::AddressInLog(size_t index) {
  constexpr absl::string_view kListening = "listening on ";
  MutexLock lock(mutex_);
  while (true) {
    size_t seen = 0;
    for (const std::string& line : lines_) {
      const size_t at = line.find(kListening.data());
      if (at != std::string::npos && seen++ == index) return line.substr(at + kListening.size());
    }
    if (log_ended_) return "";
    changed_.Wait(mutex_);
  }
}

void EngramdProcess::Signal(int signal) const {
  kill(pid_, signal);
  siginfo_t stopped;
  if (signal == SIGSTOP) waitid(P_PID, static_cast<id_t>(pid_), &stopped, WSTOPPED);
}

void EngramdProcess::Reap(int options) {
  int status = 0;
  if (!end_ && waitpid(pid_, &status, options) == pid_) end_ = ExitCode(status);
}

bool EngramdProcess::IsRunning() {
  Reap(WNOHANG);
  return !end_;
}

int EngramdProcess::WaitForEnd() {
  Reap(0);
  // What it wrote last is read a moment later.
  MutexLock lock(mutex_);
  while (!log_ended_) changed_.Wait(mutex_);
  return end_.value_or(-1);
}

std::string EngramdProcess::Log() {
  MutexLock lock(mutex_);
  std::string log;
  for (const std::string& line : lines_) absl::StrAppend(&log, line, "\n");
  return log;
}

Outcome RunShell(const std::string& line) {
  const std::string err_path = absl::StrCat(::testing::TempDir(), "/shell_stderr");
  const std::string command =
      absl::StrCat("set -o pipefail; ENGRAM=", kEngram, "; { ", line, "\n} 2>", err_path);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no thread of a test reads the environment meanwhile
  setenv("ENGRAM_TEST_LINE", command.c_str(), 1);
  FILE* pipe = popen("exec bash -c \"$ENGRAM_TEST_LINE\"", "r");
  Outcome outcome;
  char bytes[4096];
  size_t count = 0;
  while ((count = fread(bytes, 1, sizeof(bytes), pipe)) > 0) outcome.out.append(bytes, count);
  outcome.exit_code = ExitCode(pclose(pipe));
  std::ifstream err(err_path);
  outcome.err.assign(std::istreambuf_iterator<char>(err), {});
  return outcome;
}

}  // namespace engram::integration
