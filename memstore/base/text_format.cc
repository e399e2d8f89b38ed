#include "memstore/base/text_format.h"

#include <google/protobuf/io/tokenizer.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

// Keeps the first complaint of the text parser.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  // Both count from 0.
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (text_.empty())
      text_ = absl::StrCat(line + 1, ":", column + 1, ": ", QuoteForMessage(message));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

absl::Status ParseTextFormat(absl::string_view text, google::protobuf::Message* message,
                             google::protobuf::TextFormat::ParseInfoTree* places) {
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.SetRecursionLimit(kMaxTextNesting);
  if (places != nullptr) parser.WriteLocationsTo(places);
  if (parser.ParseFromString(std::string(text), message)) return absl::OkStatus();
  return absl::InvalidArgumentError(error.text());
}

}  // namespace engram
