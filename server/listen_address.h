// Where engramd listens: HOST:PORT or unix:PATH; and why it can't where it can't.
//
// Plain values and stateless functions; the socket calls are short and block nowhere.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct ListenAddress {
  std::string host;       // as written, an IPv6 address in brackets; empty for a Unix socket
  std::string port;       // decimal; "0": the kernel chooses
  std::string unix_path;  // empty for TCP

  bool is_unix() const { return !unix_path.empty(); }
  std::string Text() const;  // "host:port" or "unix:path"
};

// INVALID_ARGUMENT names the text and the forms there are.
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

// Whether the address can be bound now: ALREADY_EXISTS when somebody listens there,
// INVALID_ARGUMENT or UNAVAILABLE with the system's reason otherwise. The socket file of an engramd
// that is gone is removed; any other file is left alone.
absl::Status CheckCanListen(const ListenAddress& address);

}  // namespace engram
