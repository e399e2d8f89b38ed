// The page that says whether a table set may still be read: one a served set, written by its owner,
// mapped read-only by every client that maps the set's rows.
//
// Read it before and after each gather: rows count only when the set was served before and was not
// fenced after. State and epoch are one word, so one load sees both. Thread-safe; a read is one
// load.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/os/memfd.h"

namespace engram {

// In the order in which a set may pass through them; backwards from kSuperseded alone.
enum class TableSetState : uint8_t {
  kServing = 1,
  kSuperseded = 2,  // served to those who have it; its name leads to another set, or to none
  kRetiring = 3,    // batches under way finish, no further one begins
  kGone = 4,        // the owner has stopped
  kFenced = 5,      // its rows may be wrong: nothing that was read of late counts
};

inline constexpr uint64_t kControlPageBytes = 4096;

// What lies in the page; all numbers are little-endian.
struct ControlWords {
  char magic[8];
  uint32_t version;
  uint32_t reserved;
  char set_id[64];
  std::atomic<uint64_t> state_and_epoch;  // state in the low byte, number of changes above it
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

struct TableSetStateAndEpoch {
  TableSetState state = TableSetState::kGone;
  uint64_t epoch = 0;
};

// What a batch that wants to begin is told: OK while the set is served (superseded or not),
// FAILED_PRECONDITION while it retires, UNAVAILABLE once the owner has stopped, DATA_LOSS once it
// is fenced.
absl::Status MayBegin(TableSetState state, absl::string_view set_id);
// What a batch that has read its rows is told: OK, or DATA_LOSS once the set is fenced.
absl::Status MayFinish(TableSetState state, absl::string_view set_id);

class ControlPage {
 public:
  // kServing. Where the kernel has no memfd the page is the process's own and cannot be sent.
  static absl::StatusOr<std::unique_ptr<ControlPage>> Create(const std::string& set_id);

  TableSetStateAndEpoch Read() const;
  // Has no effect when the set has come as far already.
  void Advance(TableSetState state);
  // From kSuperseded to kServing, the one way back there is; no effect otherwise.
  void TakeBack();
  const FileDescriptor& memfd() const { return memfd_; }  // not open: it cannot be sent
  // For registering it with a device that reads it.
  absl::Span<std::byte> memory() const { return {page_.data(), kControlPageBytes}; }

 private:
  ControlPage(FileDescriptor memfd, Mapping page)
      : memfd_(std::move(memfd)), page_(std::move(page)) {}
  ControlWords& words() const { return *reinterpret_cast<ControlWords*>(page_.data()); }

  FileDescriptor memfd_;
  Mapping page_;
};

// A client's view of it.
class ControlView {
 public:
  ControlView() = default;
  // DATA_LOSS when it is not the page of set `set_id`.
  static absl::StatusOr<ControlView> Map(const FileDescriptor& memfd, absl::string_view set_id);

  TableSetStateAndEpoch Read() const;
  void Abandon() { page_.Abandon(); }

 private:
  explicit ControlView(Mapping page) : page_(std::move(page)) {}
  Mapping page_;
};

}  // namespace engram
