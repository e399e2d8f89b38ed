// Real certificates for tests, made by the openssl program in a directory of the test's.
#pragma once

#include <string>

namespace engram::integration {

struct CertificateFiles {
  std::string cert;  // PEM
  std::string key;
};

// An authority of its own. A test failure when openssl fails, here and below.
CertificateFiles MakeAuthority(const std::string& directory, const std::string& name);

// A certificate of `authority` for `alternative_names` ("DNS:localhost,IP:127.0.0.1"), valid for
// `days` from now; -1: it has expired.
CertificateFiles MakeCertificate(const CertificateFiles& authority, const std::string& directory,
                                 const std::string& name, const std::string& alternative_names,
                                 int days = 30);

}  // namespace engram::integration
