// The PEM files of TLS, as both ends check them before they use them.
//
// Stateless, thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

// The first certificate of `cert` is valid now, and `key` is its private key. UNAUTHENTICATED: it
// has expired, or is not valid yet. INVALID_ARGUMENT (the system's code for a file that can't be
// read): no certificate, no key, or not of one pair. Each names the file.
absl::Status CheckCertificatePair(const std::string& cert, const std::string& key);

// When the first certificate of `cert` expires, in seconds since 1970. INVALID_ARGUMENT as above.
absl::StatusOr<double> CertificateExpiry(const std::string& cert);

// `path` holds certificates of authorities; INVALID_ARGUMENT as above.
absl::Status CheckAuthorities(const std::string& path);

}  // namespace engram
