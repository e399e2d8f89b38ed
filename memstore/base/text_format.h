// Reading of protobuf's text format with an error that says where.
//
// Stateless, thread-safe. The message's type stays the caller's affair.
#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

// Our schemas nest a few levels: bounds the parser's recursion over a text that anyone can write.
inline constexpr int kMaxTextNesting = 8;

// Fills `message`, and `places` (where each field stands, counted from 0) unless it is null.
// INVALID_ARGUMENT is the first complaint, "LINE:COLUMN: WHAT".
absl::Status ParseTextFormat(absl::string_view text, google::protobuf::Message* message,
                             google::protobuf::TextFormat::ParseInfoTree* places = nullptr);

}  // namespace engram
