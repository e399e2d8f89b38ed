// The digest that names a file in a cache of Hugging Face's: SHA-256 of what git-lfs or Xet holds,
// and of all else git's own, the SHA-1 of "blob BYTES\0" and the content.
//
// Used by one thread. Aborts only where OpenSSL has no memory for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

struct evp_md_ctx_st;

namespace engram {

inline constexpr size_t kSha256Digits = 64;
inline constexpr size_t kGitDigits = 40;

// Whether a digest of so many digits is one of the two, and what messages call it.
bool IsBlobDigest(absl::string_view text);  // in digits of either case
absl::string_view BlobDigestName(absl::string_view digest);

class BlobHash {
 public:
  // Of a file of `bytes` bytes, as `digest` (of either length) is made.
  BlobHash(absl::string_view digest, uint64_t bytes);
  ~BlobHash();
  BlobHash(const BlobHash&) = delete;
  BlobHash& operator=(const BlobHash&) = delete;

  void Update(absl::string_view bytes);
  // In lower-case digits; ends this computation. Empty where this OpenSSL makes no SHA-1 (some
  // systems forbid it): then there is nothing to compare.
  std::string FinishHex();

 private:
  evp_md_ctx_st* context_;
  bool usable_ = false;
};

}  // namespace engram
