// The PEM files of TLS, as both ends check them before they use them.
//
// Stateless, thread-safe. INVALID_ARGUMENT: what a file holds cannot be used; UNAUTHENTICATED: its
// certificate has expired, or is not valid yet. Each message names the file and what to do.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

// A file as it was read.
struct PemFile {
  std::string path;
  std::string text;
};

// The system's code for a file that can't be read; RESOURCE_EXHAUSTED: no such file is this long.
absl::StatusOr<PemFile> ReadPemFile(const std::string& path);

// A private key and the chain of its certificate.
struct KeyPair {
  // Written anew from what was parsed, and nothing else: whoever reads it finds what was checked.
  std::string pem;
  double expiry = 0;  // of the first certificate, in seconds since 1970
};

// `key` has no passphrase and is that of the first certificate of `cert`, which is valid now; every
// certificate is whole, and strong enough for this machine's OpenSSL.
absl::StatusOr<KeyPair> CheckKeyPair(const PemFile& cert, const PemFile& key);

// That the first certificate of `cert` is one that clients take of a server: its extendedKeyUsage
// and keyUsage, where it has them, allow that.
absl::Status CheckServerCertificate(const PemFile& cert);

// One certificate of an authority at least, and each whole; written anew as above.
absl::StatusOr<std::string> CheckAuthorities(const PemFile& file);

// What the above say of files as they are now.
absl::Status CheckKeyPairFiles(const std::string& cert, const std::string& key);
absl::Status CheckServerCertificateFile(const std::string& cert);
absl::Status CheckAuthoritiesFile(const std::string& path);

}  // namespace engram
