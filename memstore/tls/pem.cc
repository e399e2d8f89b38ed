#include "memstore/tls/pem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdint>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/table/posix_file.h"

namespace engram {
namespace {

// A chain, or a bundle of authorities; Debian's bundle of all of the web's has 0.2 MiB.
constexpr uint64_t kMaxPemBytes = 4 << 20;

struct FreeOpenSsl {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* cert) const { X509_free(cert); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, FreeOpenSsl>;
using Certificate = std::unique_ptr<X509, FreeOpenSsl>;
using PrivateKey = std::unique_ptr<EVP_PKEY, FreeOpenSsl>;

absl::StatusOr<Bio> ReadPem(const std::string& path, std::string* text) {
  absl::StatusOr<std::string> read = ReadWholeFile(path, kMaxPemBytes);
  if (!read.ok()) return read.status();
  *text = *std::move(read);
  return Bio(BIO_new_mem_buf(text->data(), static_cast<int>(text->size())));
}

absl::StatusOr<std::vector<Certificate>> ReadCertificates(const std::string& path) {
  std::string text;
  const absl::StatusOr<Bio> bio = ReadPem(path, &text);
  if (!bio.ok()) return bio.status();
  std::vector<Certificate> certificates;
  while (X509* const one = PEM_read_bio_X509(bio->get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(one);
  }
  ERR_clear_error();  // the end of the file is one
  if (certificates.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds no PEM certificate"));
  }
  return certificates;
}

absl::Status CheckTime(const std::string& path, const X509& certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(&certificate)) < 0) {
    return absl::UnauthenticatedError(
        absl::StrCat(path, " holds a certificate that has expired: renew it"));
  }
  if (X509_cmp_current_time(X509_get0_notBefore(&certificate)) > 0) {
    return absl::UnauthenticatedError(
        absl::StrCat(path, " holds a certificate that is not valid yet: is the clock right?"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCertificatePair(const std::string& cert, const std::string& key_path) {
  const absl::StatusOr<std::vector<Certificate>> chain = ReadCertificates(cert);
  if (!chain.ok()) return chain.status();
  if (absl::Status status = CheckTime(cert, *chain->front()); !status.ok()) return status;
  std::string text;
  const absl::StatusOr<Bio> bio = ReadPem(key_path, &text);
  if (!bio.ok()) return bio.status();
  const PrivateKey key(PEM_read_bio_PrivateKey(bio->get(), nullptr, nullptr, nullptr));
  const bool fits = key != nullptr && X509_check_private_key(chain->front().get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(key_path, " holds no PEM private key without a passphrase"));
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key_path, " is not the key of the certificate in ", cert));
}

absl::StatusOr<double> CertificateExpiry(const std::string& cert) {
  const absl::StatusOr<std::vector<Certificate>> chain = ReadCertificates(cert);
  if (!chain.ok()) return chain.status();
  tm when{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(chain->front().get()), &when) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(cert, " has no time of expiry"));
  }
  return static_cast<double>(timegm(&when));
}

absl::Status CheckAuthorities(const std::string& path) { return ReadCertificates(path).status(); }

}  // namespace engram
