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
  for (const pid_t pid : pids_) kill(pid, SIGTERM);
  while (!pids_.empty()) {
    const pid_t pid = pids_.back();
    // Its number stays its own until nobody may use it any more.
    siginfo_t ended{};
    waitid(P_PID, pid, &ended, WEXITED | WNOWAIT);
    pids_.pop_back();
    CleanUpAtTheEnd();
    waitpid(pid, nullptr, 0);
  }
  std::error_code error;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, error);
  if (ends_ != nullptr) ends_->CleanUpBy(nullptr);
}

std::string OwnServer::part_socket(uint32_t partition) const {
  return absl::StrCat(directory_, "/part", partition);
}

std::string OwnServer::cluster() const {
  std::string target = "cluster:";
  for (uint32_t p = 0; p < partitions_; ++p) {
    absl::StrAppend(&target, p > 0 ? "," : "", "unix:", part_socket(p));
  }
  return target;
}

void OwnServer::CleanUpAtTheEnd() {
  ends_->CleanUpBy([pids = pids_, directory = directory_] {
    // Nothing that they have outlasts this process; they are not asked to drain.
    for (const pid_t pid : pids) kill(pid, SIGKILL);
    RemoveTree(directory);
  });
}

void OwnServer::RunEngramd(const std::string& program, const std::vector<std::string>& flags,
                           pid_t parent) {
  // However this process ends.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);
  EndBySignal::Unblock();
  std::vector<const char*> arguments = {program.c_str()};
  for (const std::string& flag : flags) arguments.push_back(flag.c_str());
  arguments.push_back(nullptr);
  // Its lines are its own affair.
  if (freopen("/dev/null", "w", stderr) == nullptr) _exit(127);
  execv(program.c_str(), const_cast<char* const*>(arguments.data()));
  _exit(127);
}

absl::Status OwnServer::StartEngramd(const std::string& program,
                                     const std::vector<std::string>& flags) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) RunEngramd(program, flags, parent);
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot start engramd");
  pids_.push_back(pid);
  CleanUpAtTheEnd();
  return absl::OkStatus();
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
  partitions_ = options.partitions;
  absl::Status status = StartEngramd(
      options.engramd, {"--table-set", set(), "--listen", absl::StrCat("unix:", socket()),
                        "--shm-socket", shm(), "--lame-duck-s", "0"});
  for (uint32_t p = 0; status.ok() && p < partitions_; ++p) {
    status = StartEngramd(options.engramd,
                          {"--table-set", set(), "--listen", absl::StrCat("unix:", part_socket(p)),
                           "--partition", absl::StrCat(p, "/", partitions_), "--lame-duck-s", "0"});
  }
  return status;
}

}  // namespace engram::simulator
