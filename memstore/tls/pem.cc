#include "memstore/tls/pem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// A chain, or a bundle of authorities; Debian's bundle of all of the web's has 0.2 MiB.
constexpr uint64_t kMaxPemBytes = 4 << 20;

struct FreeOpenSsl {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* cert) const { X509_free(cert); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
template <typename T>
using Owned = std::unique_ptr<T, FreeOpenSsl>;
using Chain = std::vector<Owned<X509>>;

Owned<BIO> Reader(const PemFile& file) {
  return Owned<BIO>(BIO_new_mem_buf(file.text.data(), static_cast<int>(file.text.size())));
}

std::string Written(BIO* bio) {
  char* data = nullptr;
  const auto bytes = static_cast<size_t>(BIO_get_mem_data(bio, &data));
  return {data, bytes};
}

absl::Status Unusable(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, " ", what));
}

// OpenSSL's word for what it did not take; its queue of errors is empty afterwards.
std::string TakeReason() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "no reason given" : reason;
}

absl::StatusOr<Chain> ParseCertificates(const PemFile& file) {
  const Owned<BIO> bio = Reader(file);
  Chain chain;
  ERR_clear_error();
  while (X509* const one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    chain.emplace_back(one);
  }
  // That no further block begins is the end; anything else is a block that is not whole.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = TakeReason();
  if (!at_end) {
    return Unusable(file.path, absl::StrCat("holds a certificate (number ", chain.size() + 1,
                                            ") that is not whole (", reason, "): write it again"));
  }
  if (chain.empty()) return Unusable(file.path, "holds no PEM certificate: write one there");
  return chain;
}

// In the place of OpenSSL's own, which asks for the passphrase on the terminal.
int NoPassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::StatusOr<Owned<EVP_PKEY>> ParseKey(const PemFile& file) {
  const Owned<BIO> bio = Reader(file);
  bool asked = false;
  Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, &asked));
  ERR_clear_error();
  if (key != nullptr) return key;
  if (asked) {
    return Unusable(file.path,
                    "holds a key with a passphrase: write it without one (openssl pkey -in)");
  }
  return Unusable(file.path, "holds no PEM private key: write the certificate's there");
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

// What gRPC's OpenSSL will do with them: it does not take a key that is too short, for one.
absl::Status CheckTaken(const PemFile& cert, const PemFile& key_file, const Chain& chain,
                        EVP_PKEY* key) {
  const Owned<SSL_CTX> context(SSL_CTX_new(TLS_method()));
  bool taken = context != nullptr && SSL_CTX_use_certificate(context.get(), chain[0].get()) == 1;
  for (size_t i = 1; taken && i < chain.size(); ++i) {
    taken = SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) == 1;
  }
  if (!taken) {
    return Unusable(cert.path,
                    absl::StrCat("holds a certificate that OpenSSL does not take (", TakeReason(),
                                 "): renew it with a stronger key or digest"));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key) == 1) return absl::OkStatus();
  return Unusable(key_file.path, absl::StrCat("holds a key that OpenSSL does not take (",
                                              TakeReason(), "): make another one"));
}

absl::StatusOr<std::string> WriteAnew(EVP_PKEY* key, const Chain& chain) {
  const Owned<BIO> bio(BIO_new(BIO_s_mem()));
  bool written = key == nullptr || PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0,
                                                            nullptr, nullptr) == 1;
  for (const Owned<X509>& one : chain) {
    written = written && PEM_write_bio_X509(bio.get(), one.get()) == 1;
  }
  if (written) return Written(bio.get());
  return absl::InternalError(absl::StrCat("OpenSSL cannot write what it has read: ", TakeReason()));
}

}  // namespace

absl::StatusOr<PemFile> ReadPemFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxPemBytes);
  if (!text.ok()) return text.status();
  return PemFile{path, *std::move(text)};
}

absl::StatusOr<KeyPair> CheckKeyPair(const PemFile& cert, const PemFile& key_file) {
  const absl::StatusOr<Chain> chain = ParseCertificates(cert);
  if (!chain.ok()) return chain.status();
  X509* const first = chain->front().get();
  if (absl::Status status = CheckTime(cert.path, *first); !status.ok()) return status;
  const absl::StatusOr<Owned<EVP_PKEY>> key = ParseKey(key_file);
  if (!key.ok()) return key.status();
  const bool fits = X509_check_private_key(first, key->get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return Unusable(key_file.path, absl::StrCat("is not the key of the certificate in ", cert.path,
                                                ": put both of one pair there"));
  }
  absl::Status status = CheckTaken(cert, key_file, *chain, key->get());
  if (!status.ok()) return status;
  tm when{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(first), &when) != 1) {
    return Unusable(cert.path, "has no time of expiry: renew it");
  }
  absl::StatusOr<std::string> pem = WriteAnew(key->get(), *chain);
  if (!pem.ok()) return pem.status();
  return KeyPair{*std::move(pem), static_cast<double>(timegm(&when))};
}

absl::Status CheckServerCertificate(const PemFile& cert) {
  const absl::StatusOr<Chain> chain = ParseCertificates(cert);
  if (!chain.ok()) return chain.status();
  // As OpenSSL's clients ask; less than 0, where it could not tell, is no refusal of theirs.
  const int allowed = X509_check_purpose(chain->front().get(), X509_PURPOSE_SSL_SERVER, 0);
  ERR_clear_error();
  if (allowed != 0) return absl::OkStatus();
  return Unusable(cert.path,
                  "holds a certificate that is not for servers, which no client takes: have it "
                  "issued with extendedKeyUsage serverAuth (and, where it has a keyUsage, with "
                  "digitalSignature)");
}

absl::StatusOr<std::string> CheckAuthorities(const PemFile& file) {
  const absl::StatusOr<Chain> chain = ParseCertificates(file);
  if (!chain.ok()) return chain.status();
  return WriteAnew(nullptr, *chain);
}

absl::Status CheckKeyPairFiles(const std::string& cert, const std::string& key) {
  const absl::StatusOr<PemFile> cert_file = ReadPemFile(cert);
  if (!cert_file.ok()) return cert_file.status();
  const absl::StatusOr<PemFile> key_file = ReadPemFile(key);
  if (!key_file.ok()) return key_file.status();
  return CheckKeyPair(*cert_file, *key_file).status();
}

absl::Status CheckServerCertificateFile(const std::string& cert) {
  const absl::StatusOr<PemFile> file = ReadPemFile(cert);
  return file.ok() ? CheckServerCertificate(*file) : file.status();
}

absl::Status CheckAuthoritiesFile(const std::string& path) {
  const absl::StatusOr<PemFile> file = ReadPemFile(path);
  return file.ok() ? CheckAuthorities(*file).status() : file.status();
}

}  // namespace engram
