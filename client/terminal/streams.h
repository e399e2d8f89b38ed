// Files as the command writes them.
//
// Single-threaded.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace engram::cli {

// INVALID_ARGUMENT when the file at `output` is the one at `input`, by whatever path or link: it
// would be lost. `input_flag` is what names it. Of streams and devices, and of what is not there,
// OK.
absl::Status CheckNotOverInput(const std::string& output, const std::string& input,
                               const char* input_flag);

// INVALID_ARGUMENT when `output` is "-" and standard output is a terminal: what commands write
// there is bytes for programs, which a terminal would obey. /dev/stdout and /dev/tty are for who
// wants it all the same.
absl::Status CheckNotTerminal(const std::string& output);

// Where a result goes. A regular file (or none yet) is written aside and put in its place by
// Commit, so that it is whole or untouched; anything else ("-", /dev/null, a pipe) is written
// directly. What is written aside has no name where the file system can do that, so that nothing is
// left of a process that is killed. A link is written through to its target; one to nothing is
// refused, as cp does.
class OutputFile {
 public:
  // UNAVAILABLE: standard output is closed, by whichever of its names it was meant.
  // INVALID_ARGUMENT: no path, a directory, a link to nothing.
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  ~OutputFile();  // without Commit what was written aside is removed
  absl::Status Write(absl::Span<const std::byte> bytes);
  absl::Status Commit();

 private:
  enum class Way { kDirect, kNamedAside, kUnnamedAside };
  OutputFile(std::string path, Way way, std::string aside, int fd);
  static absl::StatusOr<OutputFile> OpenAside(const std::string& path, const std::string& target);
  // Gives what was written without a name one beside the target.
  absl::Status Name();

  std::string path_;
  Way way_ = Way::kDirect;
  std::string aside_;  // the name it has aside; empty: none
  int fd_ = -1;
};

}  // namespace engram::cli
