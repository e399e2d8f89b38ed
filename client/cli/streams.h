// Files as the command writes them: results out, progress on the side.
//
// Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"

namespace engram::cli {

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

// A bar on standard error for what takes more than two seconds; plain lines, one every ten seconds,
// where that is no terminal. Thread-compatible.
class Progress {
 public:
  Progress(std::string what, std::string unit, const Clock& clock = RealClock());
  ~Progress();
  void Update(uint64_t done, uint64_t total);

 private:
  struct State;
  const Clock& clock_;
  std::unique_ptr<State> state_;
};

}  // namespace engram::cli
