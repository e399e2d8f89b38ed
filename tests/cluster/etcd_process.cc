#include "tests/cluster/etcd_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"

extern char** environ;

namespace engram::integration {
namespace {

std::string MakeDirectory() {
  std::string path = testing::TempDir() + "/etcd-XXXXXX";
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return path;
}

}  // namespace

bool HasEtcd() { return RunShell("command -v etcd etcdctl").exit_code == 0; }

int EtcdProcess::FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof(address);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), bytes), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes), 0);
  close(fd);
  return ntohs(address.sin_port);
}

EtcdProcess::EtcdProcess(const std::vector<std::string>& flags, bool tls, std::string ctl_flags)
    : flags_(flags), tls_(tls), ctl_flags_(std::move(ctl_flags)), directory_(MakeDirectory()) {
  Start();
}

EtcdProcess::~EtcdProcess() {
  Kill();
  std::filesystem::remove_all(directory_);
}

std::string EtcdProcess::endpoint() const { return absl::StrCat("127.0.0.1:", port_); }

void EtcdProcess::Kill() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void EtcdProcess::Signal(int signal) const { kill(pid_, signal); }

void EtcdProcess::Start(bool wiped) {
  const std::string data = directory_ + "/data";
  if (wiped) std::filesystem::remove_all(data);
  const std::string client = absl::StrCat(tls_ ? "https://" : "http://", endpoint());
  const std::string peer = absl::StrCat("http://127.0.0.1:", peer_port_);
  std::vector<std::string> words = {"etcd",
                                    "--data-dir",
                                    data,
                                    "--listen-client-urls",
                                    client,
                                    "--advertise-client-urls",
                                    client,
                                    "--listen-peer-urls",
                                    peer,
                                    "--initial-advertise-peer-urls",
                                    peer,
                                    "--initial-cluster",
                                    absl::StrCat("default=", peer),
                                    "--unsafe-no-fsync"};
  words.insert(words.end(), flags_.begin(), flags_.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = directory_ + "/log";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    posix_spawn_file_actions_addopen(&actions, fd, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                     0600);
  }
  EXPECT_EQ(posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  while (!Answers()) {
    if (waitpid(pid_, nullptr, WNOHANG) != pid_) continue;
    pid_ = -1;
    ADD_FAILURE() << "etcd ended: " << RunShell(absl::StrCat("tail -5 ", log)).out;
    return;
  }
}

std::string EtcdProcess::CtlLine(const std::string& words) const {
  return absl::StrCat("ETCDCTL_API=3 etcdctl --endpoints ", tls_ ? "https://" : "http://",
                      endpoint(), " ", ctl_flags_, " ", words);
}

// It has a leader, and answers whoever asks with the flags.
bool EtcdProcess::Answers() const {
  return RunShell(CtlLine("--command-timeout=1s get a-key")).exit_code == 0;
}

std::string EtcdProcess::Ctl(const std::string& words) {
  const Outcome outcome = RunShell(CtlLine(words));
  EXPECT_EQ(outcome.exit_code, 0) << words << ": " << outcome.err;
  return outcome.out;
}

}  // namespace engram::integration
