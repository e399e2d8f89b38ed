#include "tests/rdma/busy_clients.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

BusyClients* clients = nullptr;

[[noreturn]] void LookUpForEver(const std::string& address) {
  auto transport = RdmaTransport::Attach(address, "", {});
  if (!transport.ok()) {
    std::fprintf(stderr, "busy client: %s\n", transport.status().ToString().c_str());
    _exit(1);
  }
  std::vector<std::unique_ptr<Batch>> batches;
  for (size_t i = 0; i < 8; ++i) {
    batches.push_back(std::make_unique<Batch>(4096, Layout::kTokens, i));
    if (!batches.back()->Register(**transport).ok()) _exit(1);
  }
  while (true) {
    std::vector<Ticket> tickets;
    for (const auto& batch : batches) {
      const auto ticket = (*transport)->Submit({.layers = batch->layers()});
      if (!ticket.ok()) _exit(1);
      tickets.push_back(*ticket);
    }
    for (const Ticket ticket : tickets) {
      if (!(*transport)->Wait(ticket).ok()) _exit(1);
      (*transport)->Reap(ticket);
    }
  }
}

[[noreturn]] void Serve(int socket) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGCHLD, SIG_IGN);
  char address[256];
  ssize_t bytes = 0;
  while ((bytes = recv(socket, address, sizeof(address), 0)) > 0) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(socket);
      LookUpForEver(std::string(address, static_cast<size_t>(bytes)));
    }
    send(socket, &child, sizeof(child), 0);
  }
  _exit(0);
}

}  // namespace

void BusyClients::Prepare() {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) != 0) std::abort();
  if (fork() == 0) {
    close(sockets[0]);
    Serve(sockets[1]);
  }
  close(sockets[1]);
  clients = new BusyClients(sockets[0]);
}

BusyClients& BusyClients::Get() { return *clients; }

pid_t BusyClients::Start(const std::string& address) {
  pid_t pid = -1;
  if (send(socket_, address.data(), address.size(), 0) < 0 ||
      recv(socket_, &pid, sizeof(pid), 0) != sizeof(pid)) {
    std::abort();
  }
  return pid;
}

}  // namespace engram::rdma

int main(int argc, char** argv) {
  engram::rdma::BusyClients::Prepare();
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
