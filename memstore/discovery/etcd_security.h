// By what both ends reach an etcd that does not take everybody.
//
// A value, and a function that reads a file; thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace engram {

struct EtcdSecurity {
  std::string ca = {};             // PEM; with it TLS is spoken
  std::string cert = {};           // PEM, with `key` or neither: what is shown to etcd
  std::string key = {};            //
  std::string server_name = {};    // that its certificate is for, where it is not the endpoint's
  std::string user = {};           // with password_file, or neither
  std::string password_file = {};  // holds the password alone; read for each token
};

// The file's line without its end. INVALID_ARGUMENT: it is empty; RESOURCE_EXHAUSTED: no password
// is this long; the system's code where it can't be read.
absl::StatusOr<std::string> ReadEtcdPassword(const std::string& path);

}  // namespace engram
