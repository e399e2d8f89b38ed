// gRPC for operators on a port of its own: the Admin service, health, reflection and channelz.
//
// A server apart from the lookup loops: its threads (at most kMaxAdminThreads of gRPC's) and its
// connections are its own. Health, reflection and channelz are gRPC's own services, which add
// themselves to every server that is built once they are switched on: the lookup server keeps them
// out (server/engramd.cc). Thread-compatible.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/admin/admin_service.h"
#include "server/net/listen_socket.h"
#include "server/security/access.h"
#include "server/security/tls.h"

namespace engram {

class AdminServer {
 public:
  // ListenSocket::Bind has the errors. A null `tls` is plain text, and none is of any account for a
  // Unix socket. `tls` outlives the server.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const ListenAddress& address,
                                                            const ServerTls* tls,
                                                            const AdminTargets& targets);
  ~AdminServer();
  const std::string& address() const { return address_; }
  // As health tells it, for "", engram.v1.Admin and engram.v1.Lookup.
  void SetServing(bool serving);

 private:
  explicit AdminServer(const AdminTargets& targets) : service_(targets) {}

  AdminService service_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace engram
