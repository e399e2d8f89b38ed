// A path that whoever reads it again and again finds checked PEM at, whatever becomes of the files
// that it came from.
//
// It is a memfd at a descriptor that stays: nothing of a private key reaches a disk, and nothing is
// left when the process is killed. What is put there takes the other's place at once, with another
// time of modification (whole seconds, which gRPC compares before and after it reads). The
// descriptor is never closed: a reader that outlives all else must not find another file of its
// number. Thread-compatible; readers may be anywhere in the process.
#pragma once

#include <ctime>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

class PemSlot {
 public:
  PemSlot() = default;
  PemSlot(const PemSlot&) = delete;
  PemSlot& operator=(const PemSlot&) = delete;

  // RESOURCE_EXHAUSTED, or the system's code: there is no memory or no descriptor for it. What was
  // there stays.
  absl::Status Put(absl::string_view pem);
  // Empty before the first Put.
  std::string Path() const;

 private:
  int fd_ = -1;
  time_t next_time_ = 1;  // 0 says "no file" to gRPC
};

}  // namespace engram
