#include "memstore/tls/pem.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Of an extension, by its number, and what it says.
using Extensions = std::vector<std::pair<int, const char*>>;

// A certificate that signed itself.
std::string Certificate(const Extensions& extensions) {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  X509* const certificate = X509_new();
  X509_set_version(certificate, 2);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  for (const auto& [number, value] : extensions) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, number, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate, key, EVP_sha256());
  BIO* const bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  char* data = nullptr;
  const auto bytes = static_cast<size_t>(BIO_get_mem_data(bio, &data));
  std::string pem(data, bytes);
  BIO_free(bio);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pem;
}

absl::Status Check(const Extensions& extensions) {
  return CheckServerCertificate({"cert.pem", Certificate(extensions)});
}

TEST(CheckServerCertificate, TakesWhatClientsTakeOfAServer) {
  for (const Extensions& extensions :
       {Extensions{},
        {{NID_ext_key_usage, "serverAuth"}},
        {{NID_ext_key_usage, "clientAuth,serverAuth"}},
        {{NID_basic_constraints, "critical,CA:TRUE"}},
        {{NID_key_usage, "digitalSignature"}, {NID_ext_key_usage, "serverAuth"}}}) {
    EXPECT_TRUE(Check(extensions).ok()) << Check(extensions);
  }
}

TEST(CheckServerCertificate, RefusesOneThatIsForSomethingElse) {
  for (const Extensions& extensions :
       {Extensions{{NID_ext_key_usage, "clientAuth"}}, {{NID_key_usage, "keyCertSign"}}}) {
    const absl::Status status = Check(extensions);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("cert.pem holds a certificate that is not for servers"),
                      HasSubstr("extendedKeyUsage serverAuth")));
  }
}

TEST(CheckServerCertificate, NamesAFileThatIsNotThere) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/no_such_certificate.pem");
  EXPECT_THAT(std::string(CheckServerCertificateFile(path).message()), HasSubstr(path));
}

}  // namespace
}  // namespace engram
