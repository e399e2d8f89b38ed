// Standard input, output and error of a program that was started without some of them.
//
// A descriptor number of 0, 1 or 2 that is closed goes to the next file that is opened, be it a
// table's memory or a connection; whoever prints then writes into it. Functions are thread-safe
// but for the first.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

// First thing in every main. A program that links this has /dev/null in the place of each of the
// three that is closed, before any library's initializer opens something. It is opened the wrong
// way round for input (no reads) and output (no writes), so that reading and writing there fail as
// they would have, rather than be nothing; what goes to standard error is dropped. Ends the process
// with exit code 1 and a message from `program` when /dev/null cannot be opened.
void EnsureStandardStreams(const char* program);

// Before a program reads standard input, or prints something that must get there: UNAVAILABLE
// where it was closed when the program started (or is open for the other direction alone).
absl::Status CheckStandardInput();
absl::Status CheckStandardOutput();

// Prints `text` through stdio, and whatever was printed before, to the end: UNAVAILABLE, with the
// reason, when it did not get to standard output.
absl::Status PrintToEnd(absl::string_view text);

}  // namespace engram
