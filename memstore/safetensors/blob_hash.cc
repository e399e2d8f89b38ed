#include "memstore/safetensors/blob_hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace engram {

bool IsBlobDigest(absl::string_view text) {
  return (text.size() == kSha256Digits || text.size() == kGitDigits) &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c); });
}

absl::string_view BlobDigestName(absl::string_view digest) {
  return digest.size() == kGitDigits ? "git blob id (SHA-1)" : "SHA-256";
}

BlobHash::BlobHash(absl::string_view digest, uint64_t bytes) : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) std::abort();
  const bool is_git = digest.size() == kGitDigits;
  usable_ = EVP_DigestInit_ex(context_, is_git ? EVP_sha1() : EVP_sha256(), nullptr) == 1;
  if (!is_git) return;
  std::string head = absl::StrCat("blob ", bytes);
  head.push_back('\0');
  Update(head);
}

BlobHash::~BlobHash() { EVP_MD_CTX_free(context_); }

void BlobHash::Update(absl::string_view bytes) {
  usable_ = usable_ && EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1;
}

std::string BlobHash::FinishHex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int digest_bytes = 0;
  usable_ = usable_ && EVP_DigestFinal_ex(context_, digest, &digest_bytes) == 1;
  if (!usable_) return "";
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), digest_bytes));
}

}  // namespace engram
