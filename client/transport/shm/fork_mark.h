// Whether this is still the process that made the mark, or a forked child of it: without a system
// call, by a page that the kernel empties in children.
//
// Thread-safe; a look is one load.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/os/memfd.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18  // Linux 4.14
#endif

namespace engram {

class ForkMark {
 public:
  static absl::StatusOr<ForkMark> Make() {
    constexpr size_t kPage = 4096;
    void* const page =
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map a page");
    ForkMark mark(Mapping(static_cast<std::byte*>(page), kPage));
    if (madvise(page, kPage, MADV_WIPEONFORK) != 0) {
      return absl::ErrnoToStatus(errno, "cannot tell forked children apart (Linux 4.14 is needed)");
    }
    *mark.page_.data() = std::byte{1};
    return mark;
  }

  bool InForkedChild() const {
    return *static_cast<const volatile std::byte*>(page_.data()) == std::byte{0};
  }
  absl::Status Check() const {
    if (!InForkedChild()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "this client was attached before a fork: shared memory does not follow into the child, "
        "attach a client of its own there");
  }

 private:
  explicit ForkMark(Mapping page) : page_(std::move(page)) {}
  Mapping page_;
};

}  // namespace engram
