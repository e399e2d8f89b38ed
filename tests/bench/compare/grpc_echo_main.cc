// grpc_echo --serve ADDRESS...          the server
// grpc_echo --unix ADDRESS --tcp ADDRESS   the contenders
#include <CLI/CLI.hpp>

#include "tests/bench/compare/grpc_echo.h"

int main(int argc, char** argv) {
  using namespace engram::bench;
  CLI::App app("the raw gRPC echo, for compare.py");
  std::vector<std::string> serve;
  std::string unix_address;
  std::string tcp_address;
  app.add_option("--serve", serve, "addresses to listen on");
  app.add_option("--unix", unix_address, "the server's Unix socket, unix:PATH");
  app.add_option("--tcp", tcp_address, "the server's TCP address");
  CLI11_PARSE(app, argc, argv);
  if (!serve.empty()) {
    const absl::Status status = ServeGrpcEcho(serve);
    return status.ok() ? 0 : Failed("grpc_echo", status);
  }
  Contenders contenders;
  contenders["echo-unix"] = GrpcEcho(unix_address, /*unary=*/false);
  contenders["echo-tcp"] = GrpcEcho(tcp_address, /*unary=*/false);
  contenders["echo-unary-unix"] = GrpcEcho(unix_address, /*unary=*/true);
  contenders["echo-unary-tcp"] = GrpcEcho(tcp_address, /*unary=*/true);
  return ServeRounds("grpc_echo", std::move(contenders), Layers{{{0, 1}, {1, 1}}});
}
