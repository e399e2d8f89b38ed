// For tests of who may have what: a table set, an authority, and certificates of it for an engramd
// and a worker.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "gtest/gtest.h"
#include "tests/integration/certificates.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {

inline constexpr char kToken[] = "0123456789abcdef-worker-a";
inline constexpr char kOtherToken[] = "0123456789abcdef-worker-b";

class SecuredTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "set");
    authority_ = MakeAuthority(scratch_ / "", "authority");
    server_ = MakeCertificate(authority_, scratch_ / "", "server", "DNS:localhost,IP:127.0.0.1");
    worker_ = MakeCertificate(authority_, scratch_ / "", "worker", "DNS:worker-a");
  }
  // Of an engramd that speaks plain text; by TLS; by TLS to clients with a certificate.
  std::vector<std::string> Flags(std::vector<std::string> more) const {
    more.insert(more.begin(), {"--table-set", scratch_ / "set", "--listen", "127.0.0.1:0"});
    return more;
  }
  std::vector<std::string> ServerTlsFlags(std::vector<std::string> more) const {
    more.insert(more.begin(), {"--tls-cert", server_.cert, "--tls-key", server_.key});
    return Flags(std::move(more));
  }
  std::vector<std::string> TlsFlags(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"--tls-client-ca", authority_.cert});
    return ServerTlsFlags(std::move(more));
  }
  static SecurityOptions With(SecurityOptions options, const CertificateFiles& own) {
    options.tls_cert = own.cert;
    options.tls_key = own.key;
    return options;
  }
  SecurityOptions Worker() const { return With({.tls_ca = authority_.cert}, worker_); }

  ScratchDirectory scratch_;
  CertificateFiles authority_, server_, worker_;
};

}  // namespace engram::integration
