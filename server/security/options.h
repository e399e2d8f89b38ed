// How a port of engramd is secured, as values. tls.h and access.h put them to use.
#pragma once

#include <cstddef>
#include <string>

namespace engram {

// Of a token; --token-file's help and the README name it. Shorter ones can be guessed; 16 bytes in
// base64 have 22 characters.
inline constexpr size_t kMinTokenBytes = 16;

// Files of a port that speaks TLS, PEM.
struct TlsFiles {
  std::string cert;  // a chain; empty: the port speaks plain text
  std::string key;
  std::string client_ca;  // empty: clients need no certificate
  bool on() const { return !cert.empty(); }
  bool operator==(const TlsFiles&) const = default;
};

// An identity that may have a table set, by its name; "*": all of them.
struct Allowance {
  std::string identity;
  std::string table_set;
};

}  // namespace engram
