#include "memstore/safetensors/json_walk.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/python_numbers.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

using nlohmann::json;

class Walk : public nlohmann::json_sax<json> {
 public:
  explicit Walk(const std::function<absl::Status(const JsonPath&, const JsonValue&)>& value)
      : value_(value) {}

  const absl::Status& status() const { return status_; }

  bool null() override { return Give({}); }
  bool boolean(bool) override { return Give({}); }
  bool number_integer(number_integer_t) override { return Give({}); }
  bool number_unsigned(number_unsigned_t number) override {
    const uint64_t value = number;
    return Give({.number = &value});
  }
  bool number_float(number_float_t, const string_t&) override { return Give({}); }
  bool string(string_t& text) override { return Give({.text = &text}); }
  bool binary(binary_t&) override { return Give({}); }
  bool key(string_t& key) override {
    path_.back() = key;
    // Of two equal keys some readers take the first, some the last, and a walk would give both.
    if (path_.size() > 1 || top_keys_.insert(key).second) return true;
    status_ = absl::InvalidArgumentError(
        absl::StrCat("the key ", QuoteForMessage(key),
                     " stands twice at its top level, and which of them is meant can't be told: "
                     "remove the wrong one, or download the file again"));
    return false;
  }
  bool start_object(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool start_array(size_t) override { return Give({.begins_array = true}) && Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    status_ = absl::InvalidArgumentError(absl::StrCat("it is no JSON at byte ", position));
    return false;
  }

 private:
  bool Give(const JsonValue& value) {
    status_ = value_(path_, value);
    return status_.ok();
  }
  bool Enter() {
    path_.emplace_back();
    if (path_.size() <= kMaxJsonNesting) return true;
    status_ = absl::InvalidArgumentError(absl::StrCat("it nests deeper than ", kMaxJsonNesting));
    return false;
  }
  bool Leave() {
    path_.pop_back();
    return true;
  }

  const std::function<absl::Status(const JsonPath&, const JsonValue&)>& value_;
  JsonPath path_;
  std::set<std::string> top_keys_;
  absl::Status status_;
};

}  // namespace

absl::Status WalkJson(absl::string_view text,
                      const std::function<absl::Status(const JsonPath&, const JsonValue&)>& value) {
  Walk walk(value);
  json::sax_parse(QuotePythonNumbers(text), &walk);
  return walk.status();
}

}  // namespace engram
