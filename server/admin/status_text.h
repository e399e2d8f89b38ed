// How the status page writes values; sizes are HumanBytes (memstore/base/human_units.h), as the
// `engram` command shows them. Stateless.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace engram {

// For HTML, in text and in attributes.
std::string Escape(absl::string_view text);
// Escape for sentences: a flag in it ("--shm-socket") is not broken after one of its dashes.
std::string EscapeSentence(absl::string_view text);
std::string CountText(double value);     // 0, 17, 1.23 k, 45.6 M
std::string TimeText(double seconds);    // 12.3 µs, 4.56 ms, 1.2 s; – where it is 0
std::string SpanText(absl::Duration d);  // 34 seconds, 1 minute 5 seconds, 2 days 4 hours
std::string PercentText(double share);   // 0 %, 0.4 %, 12 %, 100 %

}  // namespace engram
