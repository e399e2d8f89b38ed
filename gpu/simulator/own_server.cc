#include "gpu/simulator/own_server.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/families.h"
#include "memstore/os/temporary_directory.h"
#include "memstore/pack/pack_synthetic.h"

namespace engram::simulator {

OwnServer::~OwnServer() {
  if (pid_ > 0) {
    kill(pid_, SIGTERM);
    // Its number stays its own until nobody may use it any more.
    siginfo_t ended{};
    waitid(P_PID, pid_, &ended, WEXITED | WNOWAIT);
    const pid_t pid = std::exchange(pid_, -1);
    CleanUpAtTheEnd();
    waitpid(pid, nullptr, 0);
  }
  std::error_code error;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, error);
  if (ends_ != nullptr) ends_->CleanUpBy(nullptr);
}

void OwnServer::CleanUpAtTheEnd() {
  ends_->CleanUpBy([pid = pid_, directory = directory_] {
    // Nothing that it has outlasts this process; it is not asked to drain.
    if (pid > 0) kill(pid, SIGKILL);
    RemoveTree(directory);
  });
}

void OwnServer::RunEngramd(const std::string& program, pid_t parent) const {
  // However this process ends.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);
  EndBySignal::Unblock();
  const std::string address = absl::StrCat("unix:", socket()), table_set = set(), shared = shm();
  const char* const arguments[] = {
      program.c_str(), "--table-set",  table_set.c_str(), "--listen", address.c_str(),
      "--shm-socket",  shared.c_str(), "--lame-duck-s",   "0",        nullptr};
  // Its lines are its own affair.
  if (freopen("/dev/null", "w", stderr) == nullptr) _exit(127);
  execv(program.c_str(), const_cast<char* const*>(arguments));
  _exit(127);
}

absl::Status OwnServer::Start(const OwnServerOptions& options) {
  if (access(options.engramd.c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("there is no engramd at ", options.engramd,
                                            ": `./run build` makes one, --engramd names another"));
  }
  const absl::StatusOr<const Family*> family = FindFamily(options.family);
  if (!family.ok()) return family.status();
  std::string name = std::filesystem::temp_directory_path() / "engram-worker-XXXXXX";
  if (mkdtemp(name.data()) == nullptr)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", name));
  directory_ = name;
  ends_ = options.ends;
  CleanUpAtTheEnd();
  PackOptions pack;
  pack.output = set();
  pack.rows_per_head = options.rows_per_head;
  pack.token_map_file = options.token_map;
  if (const auto packed = PackSynthetic(**family, pack); !packed.ok()) return packed.status();
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) RunEngramd(options.engramd, parent);
  if (pid_ < 0) return absl::ErrnoToStatus(errno, "cannot start engramd");
  CleanUpAtTheEnd();
  return absl::OkStatus();
}

}  // namespace engram::simulator
