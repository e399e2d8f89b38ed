#include "client/cli/token_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram::cli {

absl::StatusOr<TokenStream> TokenStream::Open(const std::string& token_ids,
                                              const std::string& dead_mask) {
  absl::StatusOr<ElementReader> ids = ElementReader::Open(token_ids, sizeof(int32_t));
  if (!ids.ok()) return ids.status();
  if (dead_mask.empty()) return TokenStream(*std::move(ids), std::nullopt);
  absl::StatusOr<ElementReader> mask = ElementReader::Open(dead_mask, sizeof(uint8_t));
  if (!mask.ok()) return mask.status();
  return TokenStream(*std::move(ids), *std::move(mask));
}

absl::StatusOr<TokenStream::Run> TokenStream::Read(size_t count) {
  ids_.resize(std::max(count, ids_.size()));
  const absl::StatusOr<size_t> tokens = token_ids_.Read(ids_.data(), count);
  if (!tokens.ok()) return tokens.status();
  if (!dead_mask_) return Run{{ids_.data(), *tokens}, {}};
  dead_.resize(ids_.size());
  // One more than there are tokens at the end shows a mask that is too long.
  const absl::StatusOr<size_t> marks = dead_mask_->Read(dead_.data(), std::max<size_t>(*tokens, 1));
  if (!marks.ok()) return marks.status();
  if (*marks != *tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("the dead mask is ", *marks < *tokens ? "shorter" : "longer",
                     " than the token ids: it must hold one byte for each of them"));
  }
  return Run{{ids_.data(), *tokens}, {dead_.data(), *tokens}};
}

absl::Status CheckTokenFiles(const std::string& token_ids, const std::string& dead_mask) {
  if (token_ids != "-" || dead_mask != "-") return absl::OkStatus();
  return absl::InvalidArgumentError("--token-ids and --dead-mask can't both be standard input");
}

}  // namespace engram::cli
