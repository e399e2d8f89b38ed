#include "server/security/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <string>
#include <utility>

#include "memstore/tls/pem.h"

namespace engram {
namespace {

// How often gRPC looks for what the watch has put there.
constexpr unsigned kRefreshSeconds = 1;

}  // namespace

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Open(const TlsFiles& files,
                                                           std::shared_ptr<spdlog::logger> log) {
  const auto tell = [log = std::move(log)](const absl::Status& status, absl::string_view changed) {
    if (status.ok()) {
      log->info("read {} again: new connections use what is there now", std::string(changed));
    } else {
      log->error(
          "{}; new connections use what was read of {} before until it is put right, no restart "
          "is needed",
          std::string(status.message()), std::string(changed));
    }
  };
  absl::StatusOr<std::unique_ptr<PemWatch>> watch = PemWatch::Open(
      {.cert = files.cert, .key = files.key, .authorities = files.client_ca, .for_server = true},
      tell);
  if (!watch.ok()) return watch.status();
  return std::unique_ptr<ServerTls>(new ServerTls(*std::move(watch)));
}

std::shared_ptr<grpc::ServerCredentials> ServerTls::MakeCredentials() const {
  using grpc::experimental::FileWatcherCertificateProvider;
  const std::string pair = watch_->PairPath();
  const std::string authorities = watch_->AuthoritiesPath();
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<FileWatcherCertificateProvider>(pair, pair, authorities, kRefreshSeconds));
  options.watch_identity_key_cert_pairs();
  if (!authorities.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

}  // namespace engram
