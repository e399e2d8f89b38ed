#include "memstore/table/side_file.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

constexpr char kMagic[] = "engram-side-file";
constexpr char kVersion[] = "1";

absl::string_view Fix(absl::string_view path) {
  return absl::EndsWith(path, kLinksFile)
             ? "; it says where the rows are: link the table set again (engram pack --link)"
             : "; it may be deleted (the table set is whole without it), or copied or packed again";
}

struct Head {
  std::string sha256;
  uint64_t bytes = 0;
};

absl::StatusOr<Head> ParseHead(const std::string& path, absl::string_view text,
                               absl::string_view kind, absl::string_view set_id) {
  absl::string_view line = text;
  if (!absl::ConsumeSuffix(&line, "\n")) return DamagedSideFile(path, "has no whole head");
  while (absl::ConsumeSuffix(&line, " ")) {
  }
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  Head head;
  if (words.size() != 6 || words[0] != kMagic || !absl::SimpleAtoi(words[5], &head.bytes)) {
    return DamagedSideFile(path, "does not begin as a side file does");
  }
  if (words[1] != kVersion) {
    return DamagedSideFile(path, absl::StrCat("is of version ", QuoteForMessage(words[1]),
                                              ", this program reads version ", kVersion));
  }
  if (words[2] != kind) {
    return DamagedSideFile(
        path, absl::StrCat("is of kind ", QuoteForMessage(words[2]), ", not of kind ", kind));
  }
  if (words[3] != set_id) {
    return absl::FailedPreconditionError(absl::StrCat("side file ", path, " is of table set ",
                                                      QuoteForMessage(words[3]), ", not of ",
                                                      set_id, Fix(path)));
  }
  head.sha256 = std::string(words[4]);
  return head;
}

}  // namespace

absl::Status DamagedSideFile(absl::string_view path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("side file ", path, " ", what, Fix(path)));
}

std::string SideFileHead(absl::string_view kind, absl::string_view set_id,
                         absl::string_view body_sha256, uint64_t body_bytes) {
  std::string head = absl::StrCat(kMagic, " ", kVersion, " ", kind, " ", set_id, " ", body_sha256,
                                  " ", body_bytes);
  ENGRAM_CHECK(kind.size() <= kMaxSideFileKindBytes && head.size() < kSideFileHeadBytes,
               "a side file's head has no room for its line");
  head.resize(kSideFileHeadBytes - 1, ' ');
  head.push_back('\n');
  return head;
}

absl::Status WriteSideFile(const std::string& path, absl::string_view kind,
                           absl::string_view set_id, absl::string_view body) {
  return WriteNewFileDurably(
      path, absl::StrCat(SideFileHead(kind, set_id, Sha256Hex(body), body.size()), body));
}

absl::StatusOr<std::string> ReadSideFile(const std::string& path, absl::string_view kind,
                                         absl::string_view set_id, uint64_t max_bytes) {
  ENGRAM_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(path, kSideFileHeadBytes + max_bytes));
  if (text.size() < kSideFileHeadBytes) {
    return DamagedSideFile(path, absl::StrCat("has ", text.size(), " bytes, its head alone takes ",
                                              kSideFileHeadBytes, ": it was cut off"));
  }
  ENGRAM_ASSIGN_OR_RETURN(
      const Head head,
      ParseHead(path, absl::string_view(text).substr(0, kSideFileHeadBytes), kind, set_id));
  text.erase(0, kSideFileHeadBytes);
  if (text.size() != head.bytes) {
    return DamagedSideFile(
        path, absl::StrCat("has ", text.size(), " bytes behind its head, which says ", head.bytes,
                           ": it was ", text.size() < head.bytes ? "cut off" : "added to"));
  }
  if (Sha256Hex(text) != head.sha256) return DamagedSideFile(path, "does not match its own digest");
  return text;
}

}  // namespace engram
