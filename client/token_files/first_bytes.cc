#include "client/token_files/first_bytes.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/token_files/npy_header.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// So many characters in a row are text; raw numbers show it with the first of them.
constexpr size_t kEnoughText = 4096;
// What numpy.savez and torch.save write.
constexpr absl::string_view kZipMagic{"PK\x03\x04", 4};
// As many zeros as may begin a sequence that was padded on its left; a longer run of them decides.
constexpr size_t kPairBytes = 8, kMostPairs = size_t{1} << 17;
// What is cut or has exceptions needs more to show it, as zeros are frequent in some int32.
constexpr size_t kLeastShown = 8;
// One in so many pairs may be a number that is wide indeed, such as an image's hash.
constexpr size_t kPairsForException = 16;
// By then int32 have shown that they are: a stream need not send more before it is read.
constexpr size_t kEnoughPairs = 64;

bool IsHighHalf(int32_t number) { return number == 0 || number == -1; }

// Whether eight bytes are an int64 that an int32 holds. A single pair has no others to tell by, so
// one that is beyond an int32 is none.
bool IsNarrow(absl::string_view bytes) {
  int64_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof(number));
  return number == static_cast<int32_t>(number);
}

// Of the pairs with their high halves in either the even or the odd places: how many are int64 by
// their looks. A pair of high halves alone is neither for it nor against it.
struct PairCount {
  size_t like = 0;
  size_t unlike = 0;

  void Add(int32_t low, int32_t high) {
    if (!IsHighHalf(high)) {
      ++unlike;
    } else if (!IsHighHalf(low)) {
      ++like;
    }
  }
  bool IsOfInt64() const {
    return like >= kLeastShown && unlike * kPairsForException <= like + unlike;
  }
  bool IsOfInt32() const { return unlike >= kEnoughPairs && unlike > like; }
};

// Of UTF-8 and its relatives: what controls no machine, and the bytes that are in no UTF-8.
bool IsOfText(char c) {
  const auto byte = static_cast<uint8_t>(c);
  if (byte < 0x20) return c == '\t' || c == '\n' || c == '\r' || c == '\f';
  return byte != 0x7f && byte != 0xc0 && byte != 0xc1 && byte < 0xf5;
}

bool IsText(absl::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), IsOfText) &&
         std::any_of(bytes.begin(), bytes.end(), absl::ascii_isascii);
}

// Windows' own: its mark, and a character of ASCII. As a number it is beyond two million.
bool IsUtf16(absl::string_view bytes) {
  return bytes.size() >= 4 && absl::StartsWith(bytes, "\xff\xfe") && IsOfText(bytes[2]) &&
         bytes[3] == 0;
}

FileKind KindOfText(absl::string_view text) {
  absl::ConsumePrefix(&text, "\xef\xbb\xbf");  // the mark of UTF-8
  text = absl::StripLeadingAsciiWhitespace(text);
  const bool is_json = !text.empty() && (text.front() == '[' || text.front() == '{');
  return is_json ? FileKind::kJson : FileKind::kText;
}

}  // namespace

absl::StatusOr<FileKind> LookAtKind(ByteReader* reader) {
  absl::string_view bytes;
  for (size_t held = 0; held < kEnoughText;) {
    ENGRAM_ASSIGN_OR_RETURN(bytes, reader->Peek(held + 1));
    if (bytes.size() == held) break;  // the end
    held = bytes.size();
    if (absl::StartsWith(bytes, kNpyMagic)) return FileKind::kNpy;
    if (absl::StartsWith(bytes, kZipMagic)) return FileKind::kZip;
    if (IsUtf16(bytes)) return FileKind::kText;
    const bool may_be_magic = absl::StartsWith(kNpyMagic, bytes) ||
                              absl::StartsWith(kZipMagic, bytes) || held < kZipMagic.size();
    if (!may_be_magic && !std::all_of(bytes.begin(), bytes.end(), IsOfText)) return FileKind::kRaw;
  }
  return IsText(bytes) ? KindOfText(bytes) : FileKind::kRaw;
}

absl::StatusOr<bool> LooksLikeInt64(ByteReader* reader) {
  PairCount counts[2];  // with the high halves in the even and the odd places
  int32_t before = 0;
  size_t checked = 0, held = 0;  // numbers, bytes
  bool is_cut = false;
  while (checked < 2 * kMostPairs) {
    ENGRAM_ASSIGN_OR_RETURN(const absl::string_view bytes, reader->Peek(held + 1));
    if (bytes.size() == held) {
      if (held == kPairBytes) return IsNarrow(bytes);
      is_cut = held % kPairBytes != 0 || held == 0;
      break;
    }
    held = bytes.size();
    for (; (checked + 1) * sizeof(int32_t) <= held; ++checked) {
      int32_t number = 0;
      std::memcpy(&number, bytes.data() + checked * sizeof(number), sizeof(number));
      counts[checked % 2].Add(before, number);
      before = number;
    }
    if (counts[0].IsOfInt32() && counts[1].IsOfInt32()) return false;
  }
  const bool is_whole = !is_cut && counts[1].unlike == 0;
  return is_whole || counts[0].IsOfInt64() || counts[1].IsOfInt64();
}

absl::Status NotNumbers(FileKind kind, const std::string& name, absl::string_view cure) {
  const absl::string_view what = kind == FileKind::kJson ? "JSON"
                                 : kind == FileKind::kZip
                                     ? "a ZIP file, as numpy.savez and torch.save write them"
                                     : "text";
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", what, ": ", cure));
}

}  // namespace engram
