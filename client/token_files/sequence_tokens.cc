#include "client/token_files/sequence_tokens.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/token_files/byte_reader.h"
#include "client/token_files/first_bytes.h"
#include "client/token_files/token_id_reader.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// They are held at once: 64 MiB of them.
constexpr size_t kMaxSequences = size_t{1} << 24;
// As text: eleven characters of each, or fewer sequences.
constexpr size_t kMaxTextBytes = size_t{11} << 24;
constexpr size_t kReadIds = size_t{1} << 16;

absl::Status TooMany(const std::string& name) {
  return absl::InvalidArgumentError(absl::StrCat(name, " holds the tokens of more than ",
                                                 kMaxSequences, " sequences: split the files"));
}

absl::Status NoCount(const std::string& name, size_t sequence, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": sequence ", sequence, " has \"", what,
                                                 "\" tokens: give a number from ", "0 to ",
                                                 INT32_MAX, " for each sequence"));
}

absl::StatusOr<std::vector<uint32_t>> FromText(ByteReader* reader) {
  ENGRAM_ASSIGN_OR_RETURN(absl::string_view text, reader->Peek(kMaxTextBytes));
  if (text.size() >= kMaxTextBytes) return TooMany(reader->name());
  text = absl::StripAsciiWhitespace(text);
  if (absl::ConsumePrefix(&text, "[") && !absl::ConsumeSuffix(&text, "]")) {
    return absl::InvalidArgumentError(
        absl::StrCat(reader->name(), " begins with [ and does not end with ]; is it whole?"));
  }
  std::vector<uint32_t> tokens;
  for (const absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" ,\t\r\n\f"), absl::SkipEmpty())) {
    int32_t count = 0;
    if (!absl::SimpleAtoi(word, &count) || count < 0) {
      return NoCount(reader->name(), tokens.size(), QuoteForMessage(word));
    }
    if (tokens.size() == kMaxSequences) return TooMany(reader->name());
    tokens.push_back(static_cast<uint32_t>(count));
  }
  return tokens;
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> ReadSequenceTokens(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(ByteReader bytes, ByteReader::Open(path));
  ENGRAM_ASSIGN_OR_RETURN(const FileKind kind, LookAtKind(&bytes));
  if (kind == FileKind::kText || kind == FileKind::kJson) return FromText(&bytes);
  // Raw int64 read as int32 are the same sequences, with empty ones between them.
  ENGRAM_ASSIGN_OR_RETURN(TokenIdReader reader,
                          TokenIdReader::From(std::move(bytes), {.lookalikes = true}));
  std::vector<uint32_t> tokens;
  std::vector<int32_t> read(kReadIds);
  while (true) {
    ENGRAM_ASSIGN_OR_RETURN(const size_t ids, reader.Read(read.data(), read.size()));
    if (ids == 0) return tokens;
    if (tokens.size() + ids > kMaxSequences) return TooMany(reader.name());
    for (size_t i = 0; i < ids; ++i) {
      if (read[i] < 0) return NoCount(reader.name(), tokens.size(), absl::StrCat(read[i]));
      tokens.push_back(static_cast<uint32_t>(read[i]));
    }
  }
}

}  // namespace engram
