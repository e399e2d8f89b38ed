// engramd: the process. Flags in, signals, exit codes.
//
// Exit codes: 0 stopped by SIGTERM or SIGINT, 1 it failed, 2 bad usage.

#include <grpc/grpc.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "server/config.h"
#include "server/engramd.h"
#include "server/limits.h"

namespace engram {
namespace {

constexpr int kStopped = 0;
constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

std::shared_ptr<spdlog::logger> MakeLog() {
  auto log = std::make_shared<spdlog::logger>("engramd",
                                              std::make_shared<spdlog::sinks::stderr_sink_mt>());
  log->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  log->flush_on(spdlog::level::info);
  return log;
}

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

// While a table set loads nothing is served and nothing has to be finished.
void StopWhileLoading(int) {
  constexpr char kLine[] = "engramd was told to stop while it was loading\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kLine, sizeof(kLine) - 1);
  std::_Exit(kStopped);
}

// While it serves, signals are blocked in every thread and taken by WaitForStop.
void SetSignals(bool serving) {
  const sigset_t stop = StopSignals();
  if (serving) {
    pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  } else {
    std::signal(SIGTERM, StopWhileLoading);
    std::signal(SIGINT, StopWhileLoading);
  }
  // A peer that goes away is an error of one call.
  std::signal(SIGPIPE, SIG_IGN);
}

int WaitForStop() {
  const sigset_t stop = StopSignals();
  int signal = 0;
  sigwait(&stop, &signal);
  // A second one ends a drain that takes too long for whoever sent it.
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
  return signal;
}

int Serve(const ServerConfig& config) {
  const std::shared_ptr<spdlog::logger> log = MakeLog();
  log->info("engramd {} starts", kEngramdVersion);
  SetSignals(/*serving=*/false);
  absl::StatusOr<std::unique_ptr<Engramd>> engramd = Engramd::Load(config, log);
  if (!engramd.ok()) {
    log->error("{}", std::string(engramd.status().message()));
    return kFailed;
  }
  // Before any thread that stays is started: threads inherit what is blocked.
  SetSignals(/*serving=*/true);
  // Never undone: the last user's grpc_shutdown waits for a poller that sleeps for up to 10 s, long
  // after every call and connection has ended.
  grpc_init();
  if (absl::Status status = (*engramd)->Listen(); !status.ok()) {
    log->error("{}", std::string(status.message()));
    return kFailed;
  }
  log->info("got {}, draining for up to {} s", WaitForStop() == SIGTERM ? "SIGTERM" : "SIGINT",
            kDrainGrace.count());
  (*engramd)->Drain(kDrainGrace);
  log->info("stopped");
  return kStopped;
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  // gRPC's own lines on standard error have another form and say nothing that ours do not; set
  // before anything of gRPC runs, and only where whoever started us did not choose.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const absl::StatusOr<engram::CommandLine> command = engram::ParseCommandLine(argc, argv);
  if (!command.ok()) {
    std::fprintf(stderr, "engramd: %s\nTry: engramd --help\n",
                 std::string(command.status().message()).c_str());
    return engram::kBadUsage;
  }
  if (!command->config) {
    std::fputs(command->text.c_str(), stdout);
    return 0;
  }
  return engram::Serve(*command->config);
}
