#include "server/net/hand_to_grpc.h"

namespace engram {

void HandToGrpc(int listen_fd, int fd, MonotonicTime now, Connections& connections,
                grpc::experimental::ExternalConnectionAcceptor& server) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listen_fd;
  connection.fd = fd;
  connections.Add(fd, now);
  server.HandleNewConnection(&connection);
}

}  // namespace engram
