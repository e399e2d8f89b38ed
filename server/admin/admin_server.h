// gRPC for operators on a port of its own: the Admin service, health, reflection and channelz.
//
// A server apart from the lookup loops: its threads and its connections are its own. Connections
// are accepted here (Acceptor): a Unix socket's file is for engramd's user and group alone before
// anyone can connect, and they end with the server whatever their peers do. Health, reflection and
// channelz are gRPC's own services, which add themselves to every server that is built once they
// are switched on: the lookup server keeps them out (server/engramd.cc). Of theirs that have
// a thread for each call there are at most kMaxAdminThreads; calls of Admin have none, so that
// those who take no answer of the others do not keep operators out. What connections may hold is
// bounded by their number and by what one may send without an answer: 64 MiB in all.
// Thread-compatible.
#pragma once

#include <grpcpp/grpcpp.h>
#include <spdlog/logger.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/base/clock.h"
#include "server/admin/admin_service.h"
#include "server/net/acceptor.h"
#include "server/net/connections.h"
#include "server/net/listen_address.h"
#include "server/net/listen_socket.h"
#include "server/security/access.h"
#include "server/security/tls.h"

namespace engram {

class AdminServer {
 public:
  struct Options {
    ListenAddress address;
    // Null is plain text, and none is of any account for a Unix socket. Outlives the server.
    const ServerTls* tls = nullptr;
    int fd_limit = 0;        // Acceptor's
    Clock* clock = nullptr;  // outlives the server
  };
  // Errors: those of ListenSocket::Bind and Acceptor::Start.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const Options& options,
                                                            const AdminTargets& targets);
  // Cancels the calls that are under way, after a moment.
  ~AdminServer();
  const std::string& address() const { return address_; }
  // As health tells it, for "", engram.v1.Admin and engram.v1.Lookup.
  void SetServing(bool serving);

 private:
  AdminServer(const AdminTargets& targets, Clock* clock)
      : clock_(clock), log_(targets.log), service_(targets) {}
  void Take(int listen_fd, int fd);

  Clock* const clock_;
  const std::shared_ptr<spdlog::logger> log_;
  bool has_tls_ = false;
  Connections connections_;
  AdminService service_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> taken_;  // by server_
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace engram
