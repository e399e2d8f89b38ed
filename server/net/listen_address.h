// Where engramd listens: HOST:PORT or unix:PATH, as a value. listen_socket.h opens it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct ListenAddress {
  std::string host;       // as written, an IPv6 address in brackets; empty for a Unix socket
  std::string port;       // decimal; "0": the kernel chooses
  std::string unix_path;  // empty for TCP

  bool is_unix() const { return !unix_path.empty(); }
  std::string Text() const;  // "host:port" or "unix:path"
  // Whether only this machine can reach it, as written: a Unix socket, 127.0.0.0/8, [::1],
  // localhost. Other names are not looked up.
  bool IsLocal() const;
};

// INVALID_ARGUMENT names the text and the forms there are.
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

}  // namespace engram
