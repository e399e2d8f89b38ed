#include "client/cli/support/token_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/terminal/streams.h"
#include "client/token_files/sequence_tokens.h"
#include "memstore/base/status_macros.h"

namespace engram::cli {
namespace {

// Read at a time where all are wanted: 256 KiB of ids.
constexpr size_t kReadTokens = 1 << 16;

}  // namespace

absl::StatusOr<TokenStream> TokenStream::Open(const TokenFiles& files) {
  const bool has_mask = !files.dead_mask.empty();
  // A mask has as many bytes as there are ids, which tells int32 from int64.
  ENGRAM_ASSIGN_OR_RETURN(
      TokenIdReader ids,
      TokenIdReader::Open(files.token_ids, {.type = ParseTokenIdType(files.token_ids_type),
                                            .lookalikes = has_mask}));
  TokenStream stream(std::move(ids));
  stream.files_ = files;
  if (has_mask) {
    ENGRAM_ASSIGN_OR_RETURN(DeadMaskReader mask, DeadMaskReader::Open(files.dead_mask));
    stream.dead_mask_.emplace(std::move(mask));
  }
  if (files.sequence_tokens.empty()) return stream;
  ENGRAM_ASSIGN_OR_RETURN(stream.sequence_tokens_, ReadSequenceTokens(files.sequence_tokens));
  return stream;
}

uint64_t TokenStream::LeftOfSequence(bool* starts) {
  *starts = !std::exchange(started_, true);
  if (!sequence_tokens_) return UINT64_MAX;
  while (left_of_sequence_ == 0 && next_sequence_ < sequence_tokens_->size()) {
    left_of_sequence_ = (*sequence_tokens_)[next_sequence_++];
    *starts = true;
  }
  return left_of_sequence_;
}

absl::Status TokenStream::CheckSequence(uint64_t wanted, uint64_t got) const {
  if (!sequence_tokens_ || got == wanted) return absl::OkStatus();
  if (wanted == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        files_.token_ids, " holds more token ids than the ", tokens_, " of all sequences of ",
        files_.sequence_tokens, ": give the tokens of each sequence"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      files_.token_ids, " holds ", tokens_ + got, " token ids, fewer than the sequences of ",
      files_.sequence_tokens, " have: it ends in sequence ", next_sequence_ - 1, " of ",
      sequence_tokens_->size()));
}

absl::Status TokenStream::ReadMask(size_t tokens) {
  dead_.resize(ids_.size());
  // One more than there are tokens at the end shows a mask that is too long.
  ENGRAM_ASSIGN_OR_RETURN(const size_t marks,
                          dead_mask_->Read(dead_.data(), std::max<size_t>(tokens, 1)));
  if (marks == tokens) return absl::OkStatus();
  const bool is_shorter = marks < tokens;
  return absl::InvalidArgumentError(
      absl::StrCat("the dead mask is ", is_shorter ? "shorter" : "longer",
                   " than the token ids: it must hold one byte for each of them",
                   is_shorter && files_.token_ids_type.empty()
                       ? "; if the ids are int64, give --token-ids-type int64"
                       : ""));
}

absl::Status TokenStream::CheckWide(absl::Span<const uint8_t> dead) const {
  for (const WideTokenId& id : token_ids_.wide()) {
    // A dead position's id is not looked at.
    if (!dead.empty() && dead[id.position - tokens_] != 0) continue;
    return RefuseWideTokenId(token_ids_.name(), id);
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenStream::Run> TokenStream::Read(size_t count) {
  Run run;
  const uint64_t left = LeftOfSequence(&run.starts_sequence);
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(count, left));
  // One more than the last sequence has shows ids that belong to none.
  const size_t asked = std::max<size_t>(wanted, 1);
  ids_.resize(std::max(asked, ids_.size()));
  ENGRAM_ASSIGN_OR_RETURN(const size_t tokens, token_ids_.Read(ids_.data(), asked));
  if (sequence_tokens_) {
    ENGRAM_RETURN_IF_ERROR(CheckSequence(wanted, tokens));
    left_of_sequence_ -= tokens;
  }
  run.token_ids = {ids_.data(), tokens};
  if (dead_mask_) {
    ENGRAM_RETURN_IF_ERROR(ReadMask(tokens));
    run.dead = {dead_.data(), tokens};
  }
  ENGRAM_RETURN_IF_ERROR(CheckWide(run.dead));
  tokens_ += tokens;
  return run;
}

absl::StatusOr<MarkedTokens> ReadTokens(const TokenFiles& files, size_t most) {
  ENGRAM_ASSIGN_OR_RETURN(TokenStream stream, TokenStream::Open(files));
  MarkedTokens tokens;
  while (tokens.token_ids.size() < most) {
    ENGRAM_ASSIGN_OR_RETURN(const TokenStream::Run run,
                            stream.Read(std::min(kReadTokens, most - tokens.token_ids.size())));
    if (run.token_ids.empty()) break;
    tokens.token_ids.insert(tokens.token_ids.end(), run.token_ids.begin(), run.token_ids.end());
    tokens.dead.insert(tokens.dead.end(), run.dead.begin(), run.dead.end());
  }
  return tokens;
}

absl::Status CheckDeadMask(const TokenFiles& files, const AddressScheme& scheme) {
  if (files.dead_mask.empty() || scheme.dead_positions) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--dead-mask: family ", scheme.family,
                                                 " has no dead positions; leave the flag out"));
}

absl::Status CheckTokenFiles(const TokenFiles& files) {
  if (files.token_ids == "-" && files.dead_mask == "-") {
    return absl::InvalidArgumentError("--token-ids and --dead-mask can't both be standard input");
  }
  if (files.sequence_tokens != "-" || (files.token_ids != "-" && files.dead_mask != "-")) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--sequence-tokens and ", files.token_ids == "-" ? "--token-ids" : "--dead-mask",
                   " can't both be standard input"));
}

absl::Status CheckNotOverTokenFiles(const std::string& output, const TokenFiles& files) {
  ENGRAM_RETURN_IF_ERROR(CheckNotOverInput(output, files.token_ids, "--token-ids"));
  ENGRAM_RETURN_IF_ERROR(CheckNotOverInput(output, files.dead_mask, "--dead-mask"));
  return CheckNotOverInput(output, files.sequence_tokens, "--sequence-tokens");
}

}  // namespace engram::cli
