// Token ids with the marks of their dead positions, read a run at a time. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cli/streams.h"

namespace engram::cli {

class TokenStream {
 public:
  // int32 little-endian, and a byte for each of them where `dead_mask` is not empty; "-" is
  // standard input. NOT_FOUND names the file.
  static absl::StatusOr<TokenStream> Open(const std::string& token_ids,
                                          const std::string& dead_mask);

  struct Run {
    absl::Span<const int32_t> token_ids;  // none: the end
    absl::Span<const uint8_t> dead;       // as many, or none where there is no mask
  };
  // Up to `count` tokens, fewer only at the end; they stay until the next call. INVALID_ARGUMENT
  // when a file ends in the middle of an element, or the mask is not as long as the ids.
  absl::StatusOr<Run> Read(size_t count);

 private:
  TokenStream(ElementReader token_ids, std::optional<ElementReader> dead_mask)
      : token_ids_(std::move(token_ids)), dead_mask_(std::move(dead_mask)) {}

  ElementReader token_ids_;
  std::optional<ElementReader> dead_mask_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> dead_;
};

// INVALID_ARGUMENT when both are standard input.
absl::Status CheckTokenFiles(const std::string& token_ids, const std::string& dead_mask);

}  // namespace engram::cli
