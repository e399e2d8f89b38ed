// The names by which an engramd is known, where its address does not say its name: what its
// certificate carries among its alternative names is held against a list.
//
// Immutable, thread-safe.
#pragma once

#include <grpcpp/security/tls_certificate_verifier.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace engram {

class IdentityList {
 public:
  // More than any cluster has kinds of stores, and longer than any name is.
  static constexpr size_t kMost = 64;
  static constexpr size_t kMaxBytes = 512;

  // `names` as SecurityOptions::tls_identities has them, one at least. INVALID_ARGUMENT names the
  // one that is none, and the forms.
  static absl::StatusOr<IdentityList> Create(absl::Span<const std::string> names);

  // Of one that a certificate carries. Exactly, but for the case of DNS names: a wildcard in a
  // certificate is listed as it is there.
  bool HasDns(absl::string_view name) const;
  bool HasUri(absl::string_view uri) const;
  std::string Text() const;  // for messages

 private:
  std::vector<std::string> dns_, uris_, uri_prefixes_;
};

// In messages of a verifier's that refuses.
inline constexpr absl::string_view kNoIdentity = "none of the identities that are taken";

// Of the ends of channels whose certificates' chains were verified: takes those that have one of
// the names, whatever the address is.
std::shared_ptr<grpc::experimental::CertificateVerifier> VerifierOf(IdentityList identities);

}  // namespace engram
