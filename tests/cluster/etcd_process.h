// The real etcd, as a child of a test.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace engram::integration {

// Whether there is one, and its etcdctl: tests skip where there is not.
bool HasEtcd();

// Of one member, on a port of 127.0.0.1, with its data in a directory of its own. Killed when this
// goes. One thread's.
class EtcdProcess {
 public:
  // `flags`: besides those for addresses and data. `tls`: clients speak it; the flags say how.
  // `ctl_flags`: what etcdctl needs besides the endpoint.
  explicit EtcdProcess(const std::vector<std::string>& flags = {}, bool tls = false,
                       std::string ctl_flags = "");
  ~EtcdProcess();
  EtcdProcess(const EtcdProcess&) = delete;
  EtcdProcess& operator=(const EtcdProcess&) = delete;

  std::string endpoint() const;  // HOST:PORT
  // SIGKILL; its data stay.
  void Kill();
  // Returns when it answers; `wiped`: without the data that it had.
  void Start(bool wiped = false);
  // From the next Start on: clients that know the old one reach nobody.
  void MoveTo(int port) { port_ = port; }
  int port() const { return port_; }
  void Signal(int signal) const;
  // A test failure where it fails.
  std::string Ctl(const std::string& words);
  void SetCtlFlags(const std::string& flags) { ctl_flags_ = flags; }

  static int FreePort();

 private:
  bool Answers() const;
  std::string CtlLine(const std::string& words) const;

  const std::vector<std::string> flags_;
  const bool tls_;
  std::string ctl_flags_;
  const std::string directory_;
  int port_ = FreePort();
  const int peer_port_ = FreePort();
  pid_t pid_ = -1;
};

}  // namespace engram::integration
