// Who may gather: bounds the lookups in the server and the bytes of their replies.
//
// Thread-safe; one short lock to enter and one to leave. A lookup that finds no room for its bytes
// waits for a bounded time; one that finds too many lookups is turned away at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "absl/status/statusor.h"

namespace engram {

class Admission {
 public:
  struct Limits {
    uint32_t lookups = 0;
    uint64_t reply_bytes = 0;
    std::chrono::milliseconds wait{0};
  };
  explicit Admission(const Limits& limits) : limits_(limits) {}

  // Held while a lookup is in the server; gives its place back when destroyed.
  class Permit {
   public:
    Permit(Permit&& other) noexcept : admission_(other.admission_), bytes_(other.bytes_) {
      other.admission_ = nullptr;
    }
    ~Permit() {
      if (admission_ != nullptr) admission_->Leave(bytes_);
    }
    Permit(const Permit&) = delete;
    Permit& operator=(const Permit&) = delete;

   private:
    friend class Admission;
    Permit(Admission* admission, uint64_t bytes) : admission_(admission), bytes_(bytes) {}
    Admission* admission_;
    uint64_t bytes_;
  };

  // RESOURCE_EXHAUSTED when too many lookups are in, or no room came free in time;
  // DEADLINE_EXCEEDED when `deadline` passed first. More bytes than the limit enter alone.
  absl::StatusOr<Permit> Enter(uint64_t reply_bytes,
                               std::chrono::system_clock::time_point deadline);

 private:
  void Leave(uint64_t bytes);

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable left_;
  uint32_t lookups_ = 0;      // waiting ones included; guarded by mutex_
  uint64_t reply_bytes_ = 0;  // guarded by mutex_
};

}  // namespace engram
