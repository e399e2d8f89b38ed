// Sizes, times and counts for people: two or three digits that matter, and a unit.
//
// Stateless, thread-safe. Nothing reads these texts back.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace engram {

// "512 bytes", "1 byte", "41.2 GiB": powers of 1024, one digit behind the point.
std::string HumanBytes(uint64_t bytes);
// "29360128 bytes (28.0 MiB)", "512 bytes": for messages whose reader sets a limit by the number.
std::string ExactBytes(uint64_t bytes);
// "41.2 of 189.0 GiB": both in the unit of `total`.
std::string HumanBytesOf(uint64_t done, uint64_t total);
// "45 s", "2 min", "1 h 5 min", "3 d 4 h": rounded up, so that what is left is never "0 s" before
// it is over. Negative is over: "0 s".
std::string HumanTime(absl::Duration span);
// "1 turn", "2 turns", "0 turns": `many` where an s behind `one` does not make it.
std::string Counted(uint64_t count, absl::string_view one, absl::string_view many = "");

}  // namespace engram
