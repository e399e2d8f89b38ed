// Bytes of a file or of standard input, with a look at those that come next.
//
// Single-threaded. Holds as much as was looked at, and one read's worth beyond it.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

class ByteReader {
 public:
  // "-" is standard input. NOT_FOUND names the path; UNAVAILABLE: it cannot be read, or standard
  // input is closed; INVALID_ARGUMENT: a directory.
  static absl::StatusOr<ByteReader> Open(const std::string& path);
  ByteReader(ByteReader&& other) noexcept;
  ~ByteReader();

  // As a message names it: the path, or "standard input".
  const std::string& name() const { return name_; }

  // The next bytes, which stay: at least `bytes` of them, fewer only at the end. Waits for no more
  // than these, so that a pipe whose writer waits for an answer is not kept. Valid until the next
  // call.
  absl::StatusOr<absl::string_view> Peek(size_t bytes);

  // Takes up to `bytes` of them; fewer only at the end.
  absl::StatusOr<size_t> Read(void* out, size_t bytes);

 private:
  ByteReader(std::string name, int fd) : name_(std::move(name)), fd_(fd) {}
  // One read of the system's; 0: the end.
  absl::StatusOr<size_t> ReadOnce(char* out, size_t bytes);

  std::string name_;
  int fd_ = -1;
  std::string held_;  // read, not yet taken
  size_t taken_ = 0;  // of held_
};

}  // namespace engram
