#include "memstore/store/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

namespace engram {
namespace {

constexpr uint64_t kSmallPageBytes = 4096;
// What is asked for again at a time: each call has all cores let go of pages that they keep in
// hand.
constexpr uint64_t kCollapseBytes = 64u << 20;
constexpr int kProtection = PROT_READ | PROT_WRITE;
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// The first line of a file of the kernel's; empty when there is none.
std::string ReadLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

uint64_t ReadNumber(const std::string& path) {
  uint64_t number = 0;
  return absl::SimpleAtoi(ReadLine(path), &number) ? number : 0;
}

// With a bound node its own pages must be free: the kernel's promise at mmap is for all nodes
// together, and a missing page would show as SIGBUS. What earlier arenas were promised is still
// among a node's free pages; of all nodes together the kernel says how many are promised.
bool EnoughHugetlbPages(uint64_t bytes, const ArenaOptions& options) {
  const std::string pages = "/hugepages/hugepages-2048kB/";
  const bool bound = options.numa.kind == NumaPolicy::Kind::kBind;
  const std::string all = absl::StrCat("/sys/kernel/mm", pages);
  const uint64_t all_free = ReadNumber(all + "free_hugepages");
  const uint64_t reserved = ReadNumber(all + "resv_hugepages");
  if (all_free - std::min(all_free, reserved) < bytes / kHugePageBytes) return false;
  if (!bound) return true;
  const uint64_t node_free = ReadNumber(
      absl::StrCat("/sys/devices/system/node/node", options.numa.node, pages, "free_hugepages"));
  return node_free >= (bytes + options.promised_hugetlb_bytes) / kHugePageBytes;
}

constexpr char kTransparentHuge[] = "/sys/kernel/mm/transparent_hugepage/";

bool Chosen(absl::string_view modes, absl::string_view mode) {
  return absl::StrContains(modes, absl::StrCat("[", mode, "]"));
}

// Whether memory that asks for transparent huge pages may get them. Shared memory has its own
// switch, which newer kernels have for each size, too ("inherit" is the one for all).
bool TransparentHugePagesEnabled(bool shareable) {
  const std::string directory = kTransparentHuge;
  if (!shareable) {
    const std::string modes = ReadLine(directory + "enabled");
    return Chosen(modes, "always") || Chosen(modes, "madvise");
  }
  const auto allows = [](absl::string_view modes) {
    return Chosen(modes, "always") || Chosen(modes, "advise") || Chosen(modes, "within_size") ||
           Chosen(modes, "force");
  };
  const std::string of_all = ReadLine(directory + "shmem_enabled");
  const std::string of_size = ReadLine(directory + "hugepages-2048kB/shmem_enabled");
  if (Chosen(of_all, "deny") || Chosen(of_all, "force")) return Chosen(of_all, "force");
  return of_size.empty() || Chosen(of_size, "inherit") ? allows(of_all) : allows(of_size);
}

// Whether shared memory that the switch gives no huge pages may still be made of them, block by
// block: "never" speaks of what the kernel does by itself, "deny" of everybody.
bool CollapseIsAllowed() {
  const std::string modes = ReadLine(absl::StrCat(kTransparentHuge, "shmem_enabled"));
  return !modes.empty() && !Chosen(modes, "deny");
}

// Memory of `bytes`, its pieces in whole pages of one kind.
struct Shape {
  uint64_t bytes;
  absl::Span<const MemoryPiece> pieces;
};

// A fresh mapping and, when it is shareable, the memfd behind it.
struct Mapped {
  FileDescriptor memfd;
  Mapping memory;
};

absl::StatusOr<Mapped> MapShareable(const Shape& shape, MemfdPages pages) {
  absl::StatusOr<FileDescriptor> memfd = CreateMemfd("engram-table", BytesOf(shape.pieces), pages);
  if (!memfd.ok()) return memfd.status();
  absl::StatusOr<Mapping> memory =
      MapMemfdPieces(*memfd, shape.bytes, shape.pieces, Access::kReadWrite);
  if (!memory.ok()) return memory.status();
  return Mapped{*std::move(memfd), *std::move(memory)};
}

// `flags` beside those of every private mapping.
absl::StatusOr<Mapped> MapPrivate(const Shape& shape, int flags) {
  absl::StatusOr<Mapping> memory = ReserveAddresses(shape.bytes);
  if (!memory.ok()) return memory.status();
  for (const MemoryPiece& piece : shape.pieces) {
    if (mmap(memory->data() + piece.offset, piece.bytes, kProtection, kFlags | MAP_FIXED | flags,
             -1, 0) == MAP_FAILED) {
      return absl::ResourceExhaustedError(absl::StrCat(
          piece.bytes,
          " bytes of memory cannot be mapped: ", std::generic_category().message(errno),
          "; raise the process's address-space limit (ulimit -v) or vm.overcommit_memory"));
    }
  }
  return Mapped{{}, *std::move(memory)};
}

absl::StatusOr<Mapped> MapHugetlb(const Shape& shape, bool shareable) {
  return shareable ? MapShareable(shape, MemfdPages::kHugetlb2M)
                   : MapPrivate(shape, MAP_HUGETLB | MAP_HUGE_2MB);
}

absl::StatusOr<Mapped> MapPlain(const Shape& shape, bool shareable) {
  return shareable ? MapShareable(shape, MemfdPages::kAsTheKernelChooses) : MapPrivate(shape, 0);
}

absl::Status ApplyToPieces(const NumaPolicy& policy, const Mapping& memory,
                           absl::Span<const MemoryPiece> pieces) {
  for (const MemoryPiece& piece : pieces) {
    absl::Status status = ApplyNumaPolicy(policy, memory.data() + piece.offset, piece.bytes);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view Name(PageKind kind) {
  switch (kind) {
    case PageKind::kHugetlb2M:
      return "hugetlb-2MiB";
    case PageKind::kTransparentHuge:
      return "transparent-huge";
    case PageKind::kSmall:
      return "4KiB";
  }
  return "unknown";
}

std::array<std::pair<PageKind, uint64_t>, 3> ByKind(const ResidentPages& pages) {
  return {{{PageKind::kHugetlb2M, pages.hugetlb},
           {PageKind::kTransparentHuge, pages.transparent_huge},
           {PageKind::kSmall, pages.small}}};
}

std::string HowToGetHugePages(uint64_t bytes, bool shareable) {
  return absl::StrCat("reserve huge pages (sysctl vm.nr_hugepages=",
                      RoundUp(bytes, kHugePageBytes) / kHugePageBytes,
                      ") or allow transparent ones (echo ", shareable ? "advise" : "madvise", " > ",
                      kTransparentHuge, shareable ? "shmem_enabled" : "enabled",
                      ") and start again");
}

std::vector<MemoryPiece> InWholePages(absl::Span<const MemoryPiece> pieces, uint64_t page_bytes) {
  std::vector<MemoryPiece> whole;
  for (const MemoryPiece& piece : pieces) {
    const uint64_t begin = piece.offset / page_bytes * page_bytes;
    const uint64_t end = RoundUp(piece.offset + piece.bytes, page_bytes);
    if (!whole.empty() && begin <= whole.back().offset + whole.back().bytes) {
      whole.back().bytes = end - whole.back().offset;
    } else {
      whole.push_back({.offset = begin, .bytes = end - begin});
    }
  }
  return whole;
}

absl::StatusOr<Arena> Arena::Map(uint64_t bytes, absl::Span<const MemoryPiece> held,
                                 const ArenaOptions& options) {
  if (bytes == 0) return absl::InvalidArgumentError("an arena of 0 bytes was asked for");
  if (absl::Status status = CheckNumaPolicy(options.numa); !status.ok()) return status;
  if (bytes > std::numeric_limits<int64_t>::max() / 2) {
    return absl::ResourceExhaustedError(absl::StrCat(bytes, " bytes of memory cannot be mapped"));
  }

  const uint64_t huge_bytes = RoundUp(bytes, kHugePageBytes);
  std::vector<MemoryPiece> pieces = InWholePages(held, kHugePageBytes);
  if (options.try_hugetlb && EnoughHugetlbPages(BytesOf(pieces), options)) {
    absl::StatusOr<Mapped> mapped = MapHugetlb({huge_bytes, pieces}, options.shareable);
    if (mapped.ok()) {
      absl::Status status = ApplyToPieces(options.numa, mapped->memory, pieces);
      if (!status.ok()) return status;
      return Arena(std::move(mapped->memfd), std::move(mapped->memory), std::move(pieces),
                   PageKind::kHugetlb2M);
    }
  }

  const bool given = options.try_transparent_huge && TransparentHugePagesEnabled(options.shareable);
  const bool collapses =
      !given && options.try_transparent_huge && options.shareable && CollapseIsAllowed();
  const bool transparent = given || collapses;
  const uint64_t mapped_bytes = transparent ? huge_bytes : RoundUp(bytes, kSmallPageBytes);
  if (!transparent) pieces = InWholePages(held, kSmallPageBytes);
  absl::StatusOr<Mapped> mapped = MapPlain({mapped_bytes, pieces}, options.shareable);
  if (!mapped.ok()) return mapped.status();
  std::byte* const data = mapped->memory.data();
  PageKind kind = transparent ? PageKind::kTransparentHuge : PageKind::kSmall;
  for (const MemoryPiece& piece : pieces) {
    if (madvise(data + piece.offset, piece.bytes, transparent ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) !=
        0) {
      kind = PageKind::kSmall;  // a kernel without transparent huge pages
    }
  }
  // No core dump needs what lies in files; and so the kernel never joins this mapping with one
  // beside it, a thread's stack, say, and counts both as one.
  madvise(data, mapped_bytes, MADV_DONTDUMP);
  if (absl::Status status = ApplyToPieces(options.numa, mapped->memory, pieces); !status.ok()) {
    return status;
  }
  Arena arena(std::move(mapped->memfd), std::move(mapped->memory), std::move(pieces), kind);
  arena.collapses_ = collapses && kind == PageKind::kTransparentHuge;
  return arena;
}

void Arena::Collapse(uint64_t begin, uint64_t end) {
  for (uint64_t at = RoundUp(begin, kHugePageBytes); at < end && bytes() - at >= kHugePageBytes;
       at += kHugePageBytes) {
    // A block of which nothing is resident is refused. Errors: Populate meets them, or the pages
    // stay small, which ConfirmPageKind sees.
    static_cast<void>(madvise(data() + at, kSmallPageBytes, MADV_POPULATE_WRITE));
    static_cast<void>(madvise(data() + at, kHugePageBytes, MADV_COLLAPSE));
  }
}

absl::Status Arena::Populate(uint64_t offset, uint64_t length) {
  if (length == 0) return absl::OkStatus();
  const bool held = std::any_of(pieces_.begin(), pieces_.end(), [&](const MemoryPiece& piece) {
    return offset >= piece.offset && offset - piece.offset <= piece.bytes &&
           length <= piece.bytes - (offset - piece.offset);
  });
  if (!held) {
    return absl::InvalidArgumentError(
        absl::StrCat("bytes ", offset, " to ", offset, " + ", length, " are not in the ",
                     held_bytes(), " bytes that are held of an arena of ", bytes(), " bytes"));
  }
  const uint64_t begin = offset / kSmallPageBytes * kSmallPageBytes;
  const uint64_t end = RoundUp(offset + length, kSmallPageBytes);
  if (collapses_) Collapse(begin, end);
  int result = 0;
  do {
    result = madvise(data() + begin, end - begin, MADV_POPULATE_WRITE);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  const int error = errno;
  if (error == EINVAL) {
    // A kernel before 5.14. An atomic OR with nothing changes no byte that another thread may be
    // filling.
    for (uint64_t at = begin; at < end; at += kSmallPageBytes) {
      __atomic_fetch_or(reinterpret_cast<unsigned char*>(data() + at), 0, __ATOMIC_RELAXED);
    }
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for ", length, " bytes of an arena of ", bytes(), " bytes (",
                   Name(page_kind_), " pages): ", std::generic_category().message(error),
                   "; free memory or serve fewer tables on this machine"));
}

void Arena::CollapseRest(const std::function<bool()>& cancelled) {
  if (page_kind_ != PageKind::kTransparentHuge) return;
  for (const MemoryPiece& piece : pieces_) {
    for (uint64_t at = 0; at < piece.bytes; at += kCollapseBytes) {
      if (cancelled && cancelled()) return;
      const uint64_t length = std::min(kCollapseBytes, piece.bytes - at);
      if (madvise(data() + piece.offset + at, length, MADV_COLLAPSE) == 0) continue;
      // The next one would cost another search through all of memory, or the control group has no
      // more. Of other errors, one is about a block alone.
      if (errno == ENOMEM || errno == EBUSY) return;
    }
  }
}

void Arena::ConfirmPageKind(const ResidentPages& counted) {
  if (page_kind_ != PageKind::kTransparentHuge) return;
  if (counted.transparent_huge * 2 < counted.Total()) page_kind_ = PageKind::kSmall;
}

absl::Status Arena::Seal() {
  for (const MemoryPiece& piece : pieces_) {
    if (mprotect(data() + piece.offset, piece.bytes, PROT_READ) != 0) {
      return absl::ErrnoToStatus(errno, "cannot make a loaded table read-only");
    }
  }
  return memfd_.is_open() ? AddSeals(memfd_, kReadOnlySeals) : absl::OkStatus();
}

}  // namespace engram
