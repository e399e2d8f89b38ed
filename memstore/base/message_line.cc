#include "memstore/base/message_line.h"

#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

unsigned char ByteOf(absl::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

// Whether a character of UTF-8 goes on here.
bool GoesOn(absl::string_view text, size_t i) { return (ByteOf(text, i) & 0xc0) == 0x80; }

// C1's controls, line ends, and what turns the direction of what follows.
bool IsObeyed(uint32_t code) {
  return code < 0xa0 || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

// The bytes of the character that `text` begins with; 0 where it is to be escaped.
size_t PlainBytes(absl::string_view text) {
  constexpr uint32_t kLeastOf[] = {0, 0, 0x80, 0x800, 0x10000};  // by bytes
  const unsigned char first = ByteOf(text, 0);
  if (first < 0x80) return first >= ' ' && first != 0x7f ? 1 : 0;
  const size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return 0;
  uint32_t code = first & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if (!GoesOn(text, i)) return 0;
    code = code << 6 | (ByteOf(text, i) & 0x3fu);
  }
  const bool is_character =
      code >= kLeastOf[bytes] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  return is_character && !IsObeyed(code) ? bytes : 0;
}

}  // namespace

std::string ShortenMessage(absl::string_view text, size_t most_bytes) {
  if (text.size() <= most_bytes) return std::string(text);
  // A character has at most three bytes after its first.
  size_t head = most_bytes - most_bytes / 3;
  for (int i = 0; i < 3 && head > 0 && GoesOn(text, head); ++i) --head;
  size_t tail = text.size() - most_bytes / 3;
  for (int i = 0; i < 3 && tail < text.size() && GoesOn(text, tail); ++i) ++tail;
  return absl::StrCat(text.substr(0, head), " ... (", tail - head, " bytes left out) ... ",
                      text.substr(tail));
}

std::string MessageLine(absl::string_view text, size_t most_bytes) {
  const std::string shown = ShortenMessage(text, most_bytes);
  std::string line;
  for (absl::string_view rest = shown; !rest.empty();) {
    const size_t plain = PlainBytes(rest);
    absl::StrAppend(&line, plain > 0 ? std::string(rest.substr(0, plain))
                                     : absl::CHexEscape(rest.substr(0, 1)));
    rest.remove_prefix(plain > 0 ? plain : 1);
  }
  return line;
}

}  // namespace engram
