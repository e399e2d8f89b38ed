#include "memstore/safetensors/header_json.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr char kMetadata[] = "__metadata__";
// An entry nests two levels below the top.
constexpr int kMaxNesting = 64;
constexpr size_t kMaxRank = 8;

class HeaderWalk : public nlohmann::json_sax<json> {
 public:
  explicit HeaderWalk(const HeaderEntryFunction& entry) : give_(entry) {}

  const absl::Status& status() const { return status_; }

  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t) override { return Other(); }
  bool number_float(number_float_t, const string_t&) override { return Other(); }
  bool binary(binary_t&) override { return Other(); }
  bool number_unsigned(number_unsigned_t number) override {
    if (numbers_ == nullptr || depth_ != kInField || numbers_->size() == kMaxRank) return Other();
    numbers_->push_back(number);
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ != kInEntry || field_ != Field::kDtype) return Other();
    entry_.dtype = text;
    return true;
  }
  bool key(string_t& key) override {
    if (depth_ == kAtTop) name_ = key;
    if (depth_ == kInEntry && in_entry_) Begin(key);
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ == kAtTop && name_ != kMetadata) {
      entry_.Clear();
      in_entry_ = true;
      numbers_ = nullptr;
    } else if (in_entry_) {
      MarkBad();
    }
    return Enter();
  }
  bool end_object() override {
    --depth_;
    if (depth_ != kAtTop || !in_entry_) return true;
    in_entry_ = false;
    status_ = give_(name_, entry_);
    return status_.ok();
  }
  bool start_array(size_t) override {
    if (depth_ == 0) return Refuse("it is no JSON object");
    const bool expected =
        depth_ == kInEntry && (field_ == Field::kShape || field_ == Field::kOffsets);
    if (in_entry_ && !expected) MarkBad();
    return Enter();
  }
  bool end_array() override {
    --depth_;
    if (depth_ == kInEntry) numbers_ = nullptr;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    return Refuse(absl::StrCat("it is no JSON at byte ", position));
  }

 private:
  // How many brackets are open.
  static constexpr int kAtTop = 1, kInEntry = 2, kInField = 3;
  enum class Field { kDtype, kShape, kOffsets, kUnknown };

  void Begin(const std::string& key) {
    field_key_ = key;
    numbers_ = nullptr;
    bool* seen = nullptr;
    if (key == "dtype") {
      field_ = Field::kDtype;
      seen = &entry_.has_dtype;
    } else if (key == "shape") {
      field_ = Field::kShape;
      seen = &entry_.has_shape;
      numbers_ = &entry_.shape;
    } else if (key == "data_offsets") {
      field_ = Field::kOffsets;
      seen = &entry_.has_offsets;
      numbers_ = &entry_.offsets;
    } else {
      field_ = Field::kUnknown;
    }
    if (seen == nullptr || *seen) MarkBad();
    if (seen != nullptr) *seen = true;
  }
  bool Other() {
    if (depth_ == 0) return Refuse("it is no JSON object");
    if (in_entry_) MarkBad();
    return true;
  }
  void MarkBad() {
    if (entry_.is_bad) return;
    entry_.is_bad = true;
    entry_.bad_key = field_key_;
  }
  bool Enter() {
    if (++depth_ <= kMaxNesting) return true;
    return Refuse(absl::StrCat("it nests deeper than ", kMaxNesting));
  }
  bool Refuse(const std::string& why) {
    status_ = absl::InvalidArgumentError(why);
    return false;
  }

  const HeaderEntryFunction& give_;
  absl::Status status_;
  int depth_ = 0;
  bool in_entry_ = false;
  std::string name_;
  std::string field_key_;
  Field field_ = Field::kUnknown;
  std::vector<uint64_t>* numbers_ = nullptr;  // of the field that is read
  HeaderEntry entry_;
};

}  // namespace

void HeaderEntry::Clear() {
  dtype.clear();
  shape.clear();
  offsets.clear();
  has_dtype = has_shape = has_offsets = is_bad = false;
  bad_key.clear();
}

absl::Status WalkHeader(absl::string_view text, const HeaderEntryFunction& entry) {
  HeaderWalk walk(entry);
  json::sax_parse(text.begin(), text.end(), &walk);
  return walk.status();
}

}  // namespace engram
