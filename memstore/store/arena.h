// A run of memory for a layer's rows: huge pages where there are any, placed on the asked NUMA
// nodes, prefaulted by whoever fills it.
//
// Movable, not copyable; unmaps in its destructor. Not thread-safe to move; the memory itself is
// plain.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/store/numa_policy.h"

namespace engram {

enum class PageKind { kHugetlb2M, kTransparentHuge, kSmall };
absl::string_view Name(PageKind kind);  // "hugetlb-2MiB", "transparent-huge", "4KiB"

struct ArenaOptions {
  NumaPolicy numa;
  bool try_hugetlb = true;
  bool try_transparent_huge = true;
};

class Arena {
 public:
  Arena() = default;
  // RESOURCE_EXHAUSTED when the mapping is refused; INVALID_ARGUMENT when the NUMA node is not
  // there. Hugetlb first (when enough pages are reserved and free), then transparent huge pages,
  // then 4 KiB. data() lies on 2 MiB; the memory reads as zeros, and none of it is resident yet.
  static absl::StatusOr<Arena> Map(uint64_t bytes, const ArenaOptions& options);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }  // rounded up to whole pages of page_kind()
  // What was mapped: kTransparentHuge means asked for; ConfirmPageKind() looks what came of it.
  PageKind page_kind() const { return page_kind_; }

  // Makes [offset, offset + length) resident and writable now; RESOURCE_EXHAUSTED when there is no
  // memory. Thread-safe over different ranges.
  absl::Status Populate(uint64_t offset, uint64_t length);

  // Reads from the kernel's books how much of what is resident lies in transparent huge pages, and
  // makes page_kind() kSmall when that is less than half. The books do not part neighbouring
  // arenas.
  void ConfirmPageKind();

 private:
  Arena(std::byte* data, uint64_t bytes, PageKind page_kind);

  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  PageKind page_kind_ = PageKind::kSmall;
};

}  // namespace engram
