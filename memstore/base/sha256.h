// SHA-256 as lower-case hexadecimal, the form digests have in manifests and messages.
//
// A Sha256 is used by one thread at a time; the function is thread-safe. Aborts only where OpenSSL
// cannot allocate its context. Cost: OpenSSL's, about 2 GB/s with the SHA instructions.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

struct evp_md_ctx_st;

namespace engram {

// Takes the bytes a piece at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(absl::string_view bytes);
  // The digest of all bytes so far, 64 characters; ends this computation.
  std::string FinishHex();

 private:
  evp_md_ctx_st* context_;
};

std::string Sha256Hex(absl::string_view bytes);

}  // namespace engram
