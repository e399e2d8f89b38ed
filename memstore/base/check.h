// Assertions of our own invariants, in every build: ENGRAM_CHECK(condition, why). A false one
// is a bug of ours, says where, and ends the process by SIGABRT.
//
// Never for what came from outside (a file, a flag, a message, another process): that is an
// absl::Status. Cost: one predictable branch. Never allocates.
#pragma once

namespace engram::internal {

// Writes "FILE:LINE: check failed: CONDITION: WHY" to standard error and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const char* why);

}  // namespace engram::internal

// ENGRAM_CHECK(open_tickets > 0, "a ticket was ended twice");
#define ENGRAM_CHECK(condition, why)  \
  (__builtin_expect(!!(condition), 1) \
       ? static_cast<void>(0)         \
       : ::engram::internal::CheckFailed(__FILE__, __LINE__, #condition, why))
