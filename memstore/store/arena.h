// A run of memory for a layer's rows: huge pages where there are any, placed on the asked NUMA
// nodes, prefaulted by whoever fills it. Shareable memory has them where shmem_enabled is "never",
// too (the kernel is asked block by block as it is filled, Linux 6.1), but not where it is "deny".
//
// A shareable one is a memfd: other processes map the same pages, and once sealed nobody can write,
// cut off or punch them. Of a run with holes (a partial store's) only the pieces that are held are
// memory, in whole pages of its kind; holes are addresses, and reading one ends the process. In the
// memfd the pieces lie back to back, so whoever maps it finds no hole to fill with memory either.
// Movable, not copyable; unmaps in its destructor. Not thread-safe to move; the memory itself is
// plain.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/os/memfd.h"
#include "memstore/os/posix_file.h"
#include "memstore/store/numa_policy.h"
#include "memstore/store/resident_pages.h"

namespace engram {

// Of hugetlb pages and transparent ones alike, which are the only ones that are asked for.
inline constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

enum class PageKind { kHugetlb2M, kTransparentHuge, kSmall };
absl::string_view Name(PageKind kind);  // "hugetlb-2MiB", "transparent-huge", "4KiB"
// The kinds in this order, each with its bytes.
std::array<std::pair<PageKind, uint64_t>, 3> ByKind(const ResidentPages& pages);

struct ArenaOptions {
  NumaPolicy numa;
  bool try_hugetlb = true;
  bool try_transparent_huge = true;
  bool shareable = false;  // memory that can be sent to other processes
  // Of arenas mapped before on the same terms, none of them resident yet: they draw on the same
  // free huge pages.
  uint64_t promised_hugetlb_bytes = 0;
};

// Pieces of `page_bytes` pages that have these in them; those that share a page or touch become
// one.
std::vector<MemoryPiece> InWholePages(absl::Span<const MemoryPiece> pieces, uint64_t page_bytes);

// What a person does so that tables of `bytes` get huge pages, for a warning.
std::string HowToGetHugePages(uint64_t bytes, bool shareable);

class Arena {
 public:
  Arena() = default;
  // RESOURCE_EXHAUSTED when the mapping is refused; INVALID_ARGUMENT when the NUMA node is not
  // there. Hugetlb first (when enough pages are reserved and free), then transparent huge pages,
  // then 4 KiB. data() lies on 2 MiB; the memory reads as zeros, and none of it is resident yet.
  static absl::StatusOr<Arena> Map(uint64_t bytes, const ArenaOptions& options) {
    return Map(bytes, {{.offset = 0, .bytes = bytes}}, options);
  }
  // The same of a run of `bytes` of which these pieces alone are memory; they ascend, do not
  // overlap and lie within it. None: all of it is a hole.
  static absl::StatusOr<Arena> Map(uint64_t bytes, absl::Span<const MemoryPiece> held,
                                   const ArenaOptions& options);

  std::byte* data() const { return memory_.data(); }
  uint64_t bytes() const { return memory_.bytes(); }  // rounded up to whole pages of page_kind()
  // What of it is memory, in whole pages of page_kind(), and how much that is.
  const std::vector<MemoryPiece>& pieces() const { return pieces_; }
  uint64_t held_bytes() const { return BytesOf(pieces_); }
  const FileDescriptor& memfd() const { return memfd_; }  // open when it is shareable
  AddressRange range() const {
    const auto begin = reinterpret_cast<uintptr_t>(data());
    return {begin, begin + bytes()};
  }
  // What was mapped: kTransparentHuge means asked for, until ConfirmPageKind() says what came of
  // it.
  PageKind page_kind() const { return page_kind_; }

  // Makes [offset, offset + length) resident and writable now; RESOURCE_EXHAUSTED when there is no
  // memory, INVALID_ARGUMENT when it is not all held. Thread-safe over different ranges.
  absl::Status Populate(uint64_t offset, uint64_t length);

  // Once all is filled: asks again for huge pages where blocks were left small, as those are that
  // one thread wrote to while another asked (Linux 6.1; before, nothing). Costs a look at each
  // block that is huge, and a copy of each that is not; ends when the kernel has no huge page left,
  // and between 64 MiB when `cancelled`, which may be empty, says so.
  void CollapseRest(const std::function<bool()>& cancelled);

  // What the kernel counted of it becomes page_kind(): kSmall where less than half of what is
  // resident lies on transparent huge pages.
  void ConfirmPageKind(const ResidentPages& counted);

  // Once all is loaded: from here on the memory is read alone, by this process too; a shareable
  // one's size and bytes are fixed for everybody.
  absl::Status Seal();

 private:
  Arena(FileDescriptor memfd, Mapping memory, std::vector<MemoryPiece> pieces, PageKind page_kind)
      : memfd_(std::move(memfd)),
        memory_(std::move(memory)),
        pieces_(std::move(pieces)),
        page_kind_(page_kind) {}
  // Huge pages for the whole blocks of 2 MiB that begin in [begin, end).
  void Collapse(uint64_t begin, uint64_t end);

  FileDescriptor memfd_;
  Mapping memory_;
  std::vector<MemoryPiece> pieces_;
  PageKind page_kind_ = PageKind::kSmall;
  bool collapses_ = false;  // the kernel gives no huge pages by itself
};

}  // namespace engram
