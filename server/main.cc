// engramd: the process. Flags in, signals, exit codes.
//
// SIGTERM and SIGINT end it after a drain, a second one at once. SIGHUP (a terminal that closes,
// `systemctl reload`) ends nothing: files that may change are read again.
// Exit codes: 0 stopped by SIGTERM or SIGINT, 1 it failed, 2 bad usage.

#include <grpc/grpc.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/malloc_tuning.h"
#include "memstore/os/standard_streams.h"
#include "memstore/os/temporary_directory.h"
#include "proto/wire/version.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/engramd.h"
#include "server/start_checks.h"

namespace engram {
namespace {

constexpr int kStopped = 0;
constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

// Waits for the signals that engramd acts on, in a thread of its own ("signals"), so that one is
// seen whatever the others do: load, look a host's name up, or serve.
class Signals {
 public:
  // Blocked here and in every thread that is started from here on: they inherit it.
  Signals() : signals_(BlockSignals()), thread_([this] { Run(); }) {
    pthread_setname_np(thread_.native_handle(), "signals");
    // It waits for what need not come, and ends with the process.
    thread_.detach();
  }
  // From now on a signal is for Wait. Before, it ends the process: nothing is served yet and
  // nothing has to be finished.
  void Serving() {
    MutexLock lock(mutex_);
    serving_ = true;
  }
  // What is said when the process ends by a signal that came too early to be waited for.
  void OnEarlyEnd(std::function<void(const char* signal)> say) {
    MutexLock lock(mutex_);
    say_ = std::move(say);
  }
  // What is done before that.
  void BeforeEarlyEnd(std::function<void()> clean_up) {
    MutexLock lock(mutex_);
    clean_up_ = std::move(clean_up);
  }
  // What SIGHUP does from now on, in the thread of the signals; null: nothing. The one before is
  // not under way when it returns.
  void OnHangup(std::function<void()> hangup) {
    MutexLock lock(mutex_);
    hangup_ = std::move(hangup);
  }
  // Does not return while the process ends so: what fails meanwhile is no failure.
  void LetEarlyEnd() { MutexLock lock(mutex_); }
  int Wait() {
    MutexLock lock(mutex_);
    while (signal_ == 0) came_.Wait(mutex_);
    return signal_;
  }

 private:
  static sigset_t BlockSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    return set;
  }
  // The next of them that is to stop engramd.
  int WaitToStop() {
    while (true) {
      int signal = 0;
      sigwait(&signals_, &signal);
      if (signal != SIGHUP) return signal;
      MutexLock lock(mutex_);
      if (hangup_) hangup_();
    }
  }
  void Run() {
    const int signal = WaitToStop();
    {
      MutexLock lock(mutex_);
      if (!serving_) {
        if (say_) say_(signal == SIGTERM ? "SIGTERM" : "SIGINT");
        if (clean_up_) clean_up_();
        std::_Exit(kStopped);
      }
      signal_ = signal;
    }
    came_.NotifyAll();
    // A second one ends a drain that takes too long for whoever sent it. SIGHUP stays blocked.
    sigset_t stops;
    sigemptyset(&stops);
    for (const int stop : {SIGTERM, SIGINT}) {
      std::signal(stop, SIG_DFL);
      sigaddset(&stops, stop);
    }
    pthread_sigmask(SIG_UNBLOCK, &stops, nullptr);
    while (true) pause();
  }

  const sigset_t signals_;
  Mutex mutex_;
  CondVar came_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  int signal_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<void(const char*)> say_ ABSL_GUARDED_BY(mutex_);  // may be empty
  std::function<void()> clean_up_ ABSL_GUARDED_BY(mutex_);        // may be empty
  std::function<void()> hangup_ ABSL_GUARDED_BY(mutex_);          // may be empty
  std::thread thread_;
};

// Where files are kept that are of no use to a later engramd; goes when this one ends.
absl::StatusOr<TemporaryDirectory> MakeScratch(Signals& signals) {
  ENGRAM_ASSIGN_OR_RETURN(TemporaryDirectory scratch, TemporaryDirectory::Make("engramd"));
  signals.BeforeEarlyEnd([path = scratch.path()] { RemoveTree(path); });
  return scratch;
}

void LogSignal(spdlog::logger& log, const char* name, const std::string& what) {
  LogEvent(log, spdlog::level::info, "signal", {{"signal", name}},
           absl::StrCat("got ", name, what));
}

// Whether Engramd::ReadFilesAgain has anything to read, and so to tell of.
bool HasFilesToRead(const ServerConfig& config) {
  const bool admin_speaks_tls =
      config.admin_grpc_listen && !config.admin_grpc_listen->is_unix() && config.admin_tls.on();
  return !config.token_file.empty() || config.tls.on() || admin_speaks_tls;
}

// The process's exit code.
int Fail(spdlog::logger& log, const absl::Status& status, absl::string_view fix = "") {
  LogEvent(log, spdlog::level::err, "failed", {{"code", absl::StatusCodeToString(status.code())}},
           absl::StrCat(status.message(), fix));
  return kFailed;
}

// Where a thread can't be started gRPC may wait for it without an end when it is torn down: the
// process ends then, with what it did not remove yet.
void EndSoon() {
  constexpr unsigned kTearDownSeconds = 10;
  std::signal(SIGALRM, [](int) { std::_Exit(kFailed); });
  alarm(kTearDownSeconds);
}

int Serve(ServerConfig config, Signals& signals) {
  const std::shared_ptr<spdlog::logger> log = MakeLog(config.log_json, config.log_level);
  LogEvent(*log, spdlog::level::info, "starting", {{"version", kEngramVersion}},
           absl::StrCat("engramd ", kEngramVersion, " starts"));
  signals.OnHangup([log] { LogSignal(*log, "SIGHUP", ": nothing is served yet, go on loading"); });
  signals.OnEarlyEnd([log](const char* name) {
    LogEvent(*log, spdlog::level::info, "stopped", {{"signal", name}},
             absl::StrCat("got ", name, ": engramd was told to stop before it served"));
  });
  std::optional<TemporaryDirectory> scratch;
  if (!config.checkpoint.empty() && config.state_dir.empty()) {
    absl::StatusOr<TemporaryDirectory> made = MakeScratch(signals);
    if (!made.ok()) return Fail(*log, made.status(), "; or give --state-dir DIR");
    config.scratch_dir = scratch.emplace(*std::move(made)).path();
  }
  absl::StatusOr<std::unique_ptr<Engramd>> engramd = Engramd::Load(config, log, &RealClock());
  if (!engramd.ok()) {
    signals.LetEarlyEnd();
    return Fail(*log, engramd.status());
  }
  // Never undone: the last user's grpc_shutdown waits for a poller that sleeps for up to 10 s, long
  // after every call and connection has ended.
  grpc_init();
  absl::Status status = (*engramd)->Listen();
  if (status.ok()) {
    // Before it says that it listens: who waits for that may send the signal at once.
    signals.OnHangup([&] {
      LogSignal(*log, "SIGHUP",
                HasFilesToRead(config)
                    ? ": reading the token file and certificates again"
                    : ": there is neither a token file nor a certificate to read again");
      (*engramd)->ReadFilesAgain();
    });
    signals.Serving();
    status = (*engramd)->Accept();
  }
  if (!status.ok()) {
    signals.OnHangup(nullptr);
    Fail(*log, status);
    EndSoon();
    return kFailed;
  }
  const bool terminated = signals.Wait() == SIGTERM;
  signals.OnHangup(nullptr);
  // A second signal ends this process at once. What is served lies in memory.
  scratch.reset();
  const char* const name = terminated ? "SIGTERM" : "SIGINT";
  if (config.lame_duck.count() > 0) {
    LogSignal(*log, name,
              absl::StrCat(": health and /readyz say so, and sockets close in ",
                           config.lame_duck.count(), " s (--lame-duck-s)"));
  }
  (*engramd)->LameDuck(absl::FromChrono(config.lame_duck));
  LogEvent(*log, spdlog::level::info, "draining",
           {{"signal", name}, {"seconds", config.drain_grace.count()}},
           absl::StrCat("got ", name, ", draining for up to ", config.drain_grace.count(), " s"));
  (*engramd)->Drain(absl::FromChrono(config.drain_grace));
  LogEvent(*log, spdlog::level::info, "stopped", {{"signal", name}}, "stopped");
  return kStopped;
}

absl::Span<const char* const> Environment() {
  size_t variables = 0;
  while (environ[variables] != nullptr) ++variables;
  return {environ, variables};
}

int Say(absl::string_view text) {
  const absl::Status status = PrintToEnd(text);
  if (status.ok()) return kStopped;
  std::fprintf(stderr, "engramd: %s\n", std::string(status.message()).c_str());
  return kFailed;
}

// What is right goes to standard output, what is wrong to standard error, as every error does; on a
// terminal the errors come last.
int Check(const CommandLine& command) {
  std::vector<Finding> findings;
  for (const absl::Status& fault : command.faults) {
    findings.push_back({.what = "", .status = fault});
  }
  if (command.config) {
    for (Finding& finding : CheckConfiguration(*command.config)) {
      findings.push_back(std::move(finding));
    }
  }
  const std::string wrong = FailuresText(findings);
  const int said = Say(
      absl::StrCat(FindingsText(findings), wrong.empty() ? "the configuration is valid\n" : ""));
  std::fputs(wrong.c_str(), stderr);
  return wrong.empty() ? said : kBadUsage;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<CommandLine> command = ParseCommandLine(argc, argv, Environment());
  if (!command.ok()) {
    std::fprintf(stderr, "engramd: %s\nTry: engramd --help\n",
                 std::string(command.status().message()).c_str());
    return kBadUsage;
  }
  if (command->check_only) return Check(*command);
  if (!command->config) return Say(command->text);
  // A peer that goes away is an error of one call.
  std::signal(SIGPIPE, SIG_IGN);
  // A limit of file sizes (ulimit -f), to which memory that is shared is subject as well, is an
  // error of one file.
  std::signal(SIGXFSZ, SIG_IGN);
  // The thread that waits for signals outlives this frame; nothing frees what it uses.
  auto* const signals = new Signals;
  return Serve(*command->config, *signals);
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  engram::EnsureStandardStreams("engramd");
  engram::KeepFreedMemory();
  // Debian's absl looks for lock cycles among gRPC's mutexes, which are not ours to mend, at each
  // lock of each call: 3 % of a loop's time.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // gRPC's own lines on standard error have another form and say nothing that ours do not; set
  // before anything of gRPC runs, and only where whoever started us did not choose.
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is no other thread yet
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  try {
    return engram::Main(argc, argv);
  } catch (const std::exception& error) {
    // Memory that ran out, a thread that could not be started.
    std::fprintf(stderr, "engramd: %s\n", error.what());
    return engram::kFailed;
  }
}
