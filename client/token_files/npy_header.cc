#include "client/token_files/npy_header.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// NumPy's own readers take 10,000 bytes; the rest is room for other writers' padding.
constexpr uint32_t kMaxHeaderBytes = uint32_t{64} << 10;
// NumPy has at most 64.
constexpr int kMaxDimensions = 64;

absl::Status BadHeader(const std::string& name, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      name, " is a .npy file whose header is not one: ", why, "; save it again with numpy.save"));
}

// The literal of a Python dictionary, as far as numpy.save uses it.
class Literal {
 public:
  explicit Literal(absl::string_view text) : rest_(text) {}

  bool Take(char wanted) {
    rest_ = absl::StripLeadingAsciiWhitespace(rest_);
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool AtEnd() const { return absl::StripLeadingAsciiWhitespace(rest_).empty(); }

  std::optional<absl::string_view> String() {
    const char quote = Take('\'') ? '\'' : '"';
    if (quote == '"' && !Take('"')) return std::nullopt;
    const size_t end = rest_.find(quote);
    if (end == absl::string_view::npos) return std::nullopt;
    const absl::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }

  std::optional<bool> Bool() {
    rest_ = absl::StripLeadingAsciiWhitespace(rest_);
    if (absl::ConsumePrefix(&rest_, "True")) return true;
    if (absl::ConsumePrefix(&rest_, "False")) return false;
    return std::nullopt;
  }

  std::optional<uint64_t> Number() {
    rest_ = absl::StripLeadingAsciiWhitespace(rest_);
    const size_t digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    uint64_t number = 0;
    if (!absl::SimpleAtoi(rest_.substr(0, digits), &number)) return std::nullopt;
    rest_.remove_prefix(digits);
    absl::ConsumePrefix(&rest_, "L");  // Python 2's
    return number;
  }

  // What brackets enclose, with them: a structured array's fields.
  std::optional<absl::string_view> List() {
    rest_ = absl::StripLeadingAsciiWhitespace(rest_);
    int depth = 0;
    for (size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '[') ++depth;
      if (rest_[i] == ']') --depth;
      if (depth > 0) continue;
      if (rest_[i] != ']') return std::nullopt;  // it did not begin with a bracket
      const absl::string_view list = rest_.substr(0, i + 1);
      rest_.remove_prefix(i + 1);
      return list;
    }
    return std::nullopt;
  }

  absl::string_view rest() const { return rest_; }

 private:
  absl::string_view rest_;
};

// Of the dimensions only one may be other than 1; *several tells of more.
bool TakeShape(Literal* literal, NpyHeader* header, bool* several) {
  const absl::string_view begin = absl::StripLeadingAsciiWhitespace(literal->rest());
  if (!literal->Take('(')) return false;
  header->elements = 1;
  int not_one = 0;
  for (int dimensions = 0; !literal->Take(')'); ++dimensions) {
    const std::optional<uint64_t> size = literal->Number();
    if (!size || dimensions == kMaxDimensions) return false;
    not_one += *size == 1 ? 0 : 1;
    if (*size != 1) header->elements = *size;  // with more than one of them there is no array
    if (!literal->Take(',')) {
      if (!literal->Take(')')) return false;
      break;
    }
  }
  *several = not_one > 1;
  header->shape = QuoteForMessage(begin.substr(0, begin.size() - literal->rest().size()));
  return true;
}

struct Parsed {
  NpyHeader header;
  bool fortran_order = false;
  bool several_dimensions = false;
};

// Every key once, in any order.
std::optional<Parsed> Parse(absl::string_view text) {
  Parsed parsed;
  bool has_type = false, has_order = false, has_shape = false;
  Literal literal(text);
  if (!literal.Take('{')) return std::nullopt;
  while (!literal.Take('}')) {
    const std::optional<absl::string_view> key = literal.String();
    if (!key || !literal.Take(':')) return std::nullopt;
    if (*key == "descr" && !std::exchange(has_type, true)) {
      std::optional<absl::string_view> type = literal.List();
      if (!type) type = literal.String();
      if (!type) return std::nullopt;
      parsed.header.type = QuoteForMessage(*type);
    } else if (*key == "fortran_order" && !std::exchange(has_order, true)) {
      const std::optional<bool> order = literal.Bool();
      if (!order) return std::nullopt;
      parsed.fortran_order = *order;
    } else if (*key == "shape" && !std::exchange(has_shape, true)) {
      if (!TakeShape(&literal, &parsed.header, &parsed.several_dimensions)) return std::nullopt;
    } else {
      return std::nullopt;
    }
    if (!literal.Take(',')) {
      if (!literal.Take('}')) return std::nullopt;
      break;
    }
  }
  if (!has_type || !has_order || !has_shape || !literal.AtEnd()) return std::nullopt;
  return parsed;
}

// The dictionary's text; what comes before it is taken too.
absl::StatusOr<std::string> TakeText(ByteReader* reader) {
  unsigned char start[12];  // magic, version, length
  constexpr size_t kVersionAt = 6, kLengthAt = 8;
  ENGRAM_ASSIGN_OR_RETURN(const size_t got, reader->Read(start, kLengthAt));
  if (got < kLengthAt) return BadHeader(reader->name(), "it is cut off");
  const unsigned version = start[kVersionAt];
  if (version < 1 || version > 3 || start[kVersionAt + 1] != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(reader->name(), " is a .npy file of version ", version, ".",
                     unsigned{start[kVersionAt + 1]},
                     ", and versions 1.0 to 3.0 are read: save it with numpy.save"));
  }
  const size_t length_bytes = version == 1 ? 2 : 4;
  ENGRAM_ASSIGN_OR_RETURN(const size_t more, reader->Read(start + kLengthAt, length_bytes));
  if (more < length_bytes) return BadHeader(reader->name(), "it is cut off");
  uint32_t length = 0;
  std::memcpy(&length, start + kLengthAt, length_bytes);  // little-endian, as this machine is
  if (length > kMaxHeaderBytes) {
    return BadHeader(reader->name(), absl::StrCat("it says that it has ", length,
                                                  " bytes, more than ", kMaxHeaderBytes));
  }
  std::string text(length, '\0');
  ENGRAM_ASSIGN_OR_RETURN(const size_t taken, reader->Read(text.data(), length));
  if (taken < length) return BadHeader(reader->name(), "it is cut off");
  return text;
}

}  // namespace

absl::StatusOr<NpyHeader> ReadNpyHeader(ByteReader* reader) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string text, TakeText(reader));
  std::optional<Parsed> parsed = Parse(text);
  if (!parsed) return BadHeader(reader->name(), QuoteForMessage(text));
  const std::string& shape = parsed->header.shape;
  if (parsed->several_dimensions) {
    return absl::InvalidArgumentError(absl::StrCat(
        reader->name(), " is a .npy array of shape ", shape,
        ", and one sequence has one dimension. Save one sequence, or array.reshape(-1) and the "
        "tokens of each sequence for --sequence-tokens"));
  }
  if (parsed->fortran_order) {
    return absl::InvalidArgumentError(
        absl::StrCat(reader->name(), " is a .npy array in Fortran's order (fortran_order True): ",
                     "save numpy.ascontiguousarray(array)"));
  }
  return std::move(parsed->header);
}

}  // namespace engram
