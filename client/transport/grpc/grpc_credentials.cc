#include "client/transport/grpc/grpc_credentials.h"

#include <arpa/inet.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/transport/grpc/identity_list.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/tls/pem.h"

namespace engram {
namespace {

// How often files are looked at.
constexpr unsigned kRefreshSeconds = 1;
constexpr absl::Duration kRefreshInterval = absl::Seconds(kRefreshSeconds);
// What a header may hold, and more than any token has.
constexpr uint64_t kMaxTokenBytes = 4096;

bool IsLocal(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const std::string host(address.substr(0, address.rfind(':')));
  in_addr parsed;
  return host == "localhost" || host == "[::1]" ||
         (inet_pton(AF_INET, host.c_str(), &parsed) == 1 && ntohl(parsed.s_addr) >> 24 == 127);
}

absl::StatusOr<std::string> ReadBearer(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxTokenBytes);
  if (!text.ok()) return text.status();
  const absl::string_view token = absl::StripAsciiWhitespace(*text);
  for (const char c : token) {
    if (absl::ascii_isgraph(static_cast<unsigned char>(c))) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, " holds more than a token: write it there alone, in one line"));
  }
  if (token.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " holds no token"));
  return absl::StrCat("Bearer ", token);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsChannel(
    const PemWatch& watch, const std::vector<std::string>& names) {
  using grpc::experimental::FileWatcherCertificateProvider;
  grpc::experimental::TlsChannelCredentialsOptions tls;
  const std::string pair = watch.PairPath();
  tls.set_certificate_provider(std::make_shared<FileWatcherCertificateProvider>(
      pair, pair, watch.AuthoritiesPath(), kRefreshSeconds));
  tls.watch_root_certs();
  if (!pair.empty()) tls.watch_identity_key_cert_pairs();
  if (!names.empty()) {
    ENGRAM_ASSIGN_OR_RETURN(IdentityList identities, IdentityList::Create(names));
    tls.set_certificate_verifier(VerifierOf(std::move(identities)));
    // Else the address, which may be no name, is held against the certificate for each call.
    tls.set_check_call_host(false);
  }
  return grpc::experimental::TlsCredentials(tls);
}

absl::Status Check(const SecurityOptions& options, const std::string& address) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "a certificate and its key go together: give --tls-cert and --tls-key, or neither");
  }
  if (!options.tls() && !(options.tls_cert.empty() && options.tls_server_name.empty() &&
                          options.tls_identities.empty())) {
    return absl::InvalidArgumentError(
        "without the authority of engramd's certificate nothing speaks TLS: give --tls-ca FILE");
  }
  if (!options.token_file.empty() && !options.tls() && !IsLocal(address)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the token would travel to ", address, " in the clear: give --tls-ca FILE"));
  }
  if (!options.tls_identities.empty() && absl::StartsWith(address, "unix:")) {
    return absl::InvalidArgumentError(
        absl::StrCat(address,
                     " shows no certificate, and --tls-identity wants one: give an "
                     "address of TCP, or leave --tls-identity out"));
  }
  // gRPC ends the process for a header that is none.
  for (const char c : options.traceparent) {
    if (absl::ascii_isgraph(static_cast<unsigned char>(c))) continue;
    return absl::InvalidArgumentError(
        "--traceparent holds what no header may: see W3C Trace Context");
  }
  if (!options.tls()) return absl::OkStatus();
  ENGRAM_RETURN_IF_ERROR(CheckAuthoritiesFile(options.tls_ca));
  return options.tls_cert.empty() ? absl::OkStatus()
                                  : CheckKeyPairFiles(options.tls_cert, options.tls_key);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const GrpcCredentials>> GrpcCredentials::Create(
    const SecurityOptions& options, const std::string& address, const Clock& clock) {
  ENGRAM_RETURN_IF_ERROR(Check(options, address));
  std::shared_ptr<GrpcCredentials> credentials(new GrpcCredentials(options, clock));
  // A Unix socket stays on this machine; engramd speaks no TLS there.
  if (absl::StartsWith(address, "unix:")) credentials->options_.tls_ca.clear();
  if (credentials->tls()) {
    absl::StatusOr<std::unique_ptr<PemWatch>> watch = PemWatch::Open(
        {.cert = options.tls_cert, .key = options.tls_key, .authorities = options.tls_ca}, nullptr);
    if (!watch.ok()) return watch.status();
    credentials->watch_ = *std::move(watch);
    ENGRAM_ASSIGN_OR_RETURN(credentials->channel_,
                            TlsChannel(*credentials->watch_, options.tls_identities));
  } else {
    credentials->channel_ = grpc::InsecureChannelCredentials();
  }
  if (options.token_file.empty()) return credentials;
  ENGRAM_ASSIGN_OR_RETURN(std::string bearer, ReadBearer(options.token_file));
  MutexLock lock(credentials->mutex_);
  credentials->bearer_ = std::move(bearer);
  credentials->next_look_ = clock.After(kRefreshInterval);
  return credentials;
}

absl::Status GrpcCredentials::Refusal() const {
  return watch_ == nullptr ? absl::OkStatus() : watch_->Refusal();
}

void GrpcCredentials::Apply(grpc::ClientContext* context) const {
  if (!options_.traceparent.empty()) context->AddMetadata("traceparent", options_.traceparent);
  if (!options_.token_file.empty()) context->AddMetadata("authorization", Bearer());
}

std::string GrpcCredentials::Bearer() const {
  const MonotonicTime now = clock_.Now();
  MutexLock lock(mutex_);
  if (now >= next_look_) {
    next_look_ = now + kRefreshInterval;
    // While it cannot be read (it is being replaced) the last one stays.
    if (absl::StatusOr<std::string> bearer = ReadBearer(options_.token_file); bearer.ok()) {
      bearer_ = *std::move(bearer);
    }
  }
  return bearer_;
}

}  // namespace engram
