#include "server/security/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/tls/pem.h"
#include "server/base/log.h"

namespace engram {
namespace {

// How often gRPC looks for what the watch has put there.
constexpr unsigned kRefreshSeconds = 1;

}  // namespace

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Open(const TlsFiles& files,
                                                           std::shared_ptr<spdlog::logger> log) {
  const auto tell = [log = std::move(log)](const absl::Status& status, absl::string_view changed) {
    const nlohmann::json fields = {{"files", std::string(changed)},
                                   {"code", absl::StatusCodeToString(status.code())}};
    if (status.ok()) {
      LogEvent(*log, spdlog::level::info, "certificate_read", fields,
               absl::StrCat("read ", changed, " again: new connections use what is there now"));
    } else {
      LogEvent(*log, spdlog::level::err, "certificate_refused", fields,
               absl::StrCat(status.message(), "; new connections use what was read of ", changed,
                            " before until it is put right, no restart is needed"));
    }
  };
  absl::StatusOr<std::unique_ptr<PemWatch>> watch = PemWatch::Open(
      {.cert = files.cert, .key = files.key, .authorities = files.client_ca, .for_server = true},
      tell);
  if (!watch.ok()) return watch.status();
  return std::unique_ptr<ServerTls>(new ServerTls(files, *std::move(watch)));
}

void ServerTls::LogUse(spdlog::logger& log) const {
  const absl::Status refusal = Refusal();
  if (refusal.ok()) {
    LogEvent(
        log, spdlog::level::info, "certificate_in_use",
        {{"files", absl::StrCat(files_.cert, " ", files_.key)}},
        absl::StrCat("certificates are used as they are in ", files_.cert, " and ", files_.key));
  } else {
    LogEvent(log, spdlog::level::err, "certificate_refused",
             {{"files", absl::StrCat(files_.cert, " ", files_.key)},
              {"code", absl::StatusCodeToString(refusal.code())}},
             absl::StrCat(refusal.message(), "; what was read before is used"));
  }
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
