#include "server/security/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "memstore/tls/pem.h"

namespace engram {
namespace {

// How often the files are looked at.
constexpr unsigned kRefreshSeconds = 1;

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  if (absl::Status status = CheckCertificatePair(files.cert, files.key); !status.ok()) {
    return status;
  }
  return files.client_ca.empty() ? absl::OkStatus() : CheckAuthorities(files.client_ca);
}

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const TlsFiles& files) {
  using grpc::experimental::FileWatcherCertificateProvider;
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<FileWatcherCertificateProvider>(files.key, files.cert, files.client_ca,
                                                       kRefreshSeconds));
  options.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

}  // namespace engram
