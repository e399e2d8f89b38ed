// Clients that look rows up in processes of their own, to be killed. They are forked from a process
// that was itself forked before anything ran, so that starting one takes no time.
#pragma once

#include <sys/types.h>

#include <string>

namespace engram::rdma {

class BusyClients {
 public:
  // First thing in main().
  static void Prepare();
  static BusyClients& Get();

  // A process that attaches to the owner over RDMA and keeps several batches under way until it is
  // killed; nobody has to wait for its end.
  pid_t Start(const std::string& address);

 private:
  explicit BusyClients(int socket) : socket_(socket) {}
  const int socket_;
};

}  // namespace engram::rdma
