#include "memstore/store/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

namespace engram {
namespace {

constexpr uint64_t kSmallPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2u << 20;
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

// With a bound node its own pages must be free: the kernel's promise at mmap is for all nodes
// together, and a missing page would show as SIGBUS.
bool EnoughHugetlbPages(uint64_t bytes, const NumaPolicy& numa) {
  const std::string size = "hugepages-2048kB/free_hugepages";
  const std::string path =
      numa.kind == NumaPolicy::Kind::kBind
          ? absl::StrCat("/sys/devices/system/node/node", numa.node, "/hugepages/", size)
          : absl::StrCat("/sys/kernel/mm/hugepages/", size);
  uint64_t free_pages = 0;
  return absl::SimpleAtoi(ReadLine(path), &free_pages) && free_pages >= bytes / kHugePageBytes;
}

bool TransparentHugePagesEnabled() {
  const std::string modes = ReadLine("/sys/kernel/mm/transparent_hugepage/enabled");
  return absl::StrContains(modes, "[always]") || absl::StrContains(modes, "[madvise]");
}

// `bytes` on a 2 MiB boundary; null with errno when the kernel refuses.
std::byte* MapAligned(uint64_t bytes) {
  const uint64_t wide = bytes + kHugePageBytes;
  void* const mapped = mmap(nullptr, wide, kProtection, kFlags, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const uint64_t before = RoundUp(address, kHugePageBytes) - address;
  if (before != 0) munmap(begin, before);
  munmap(begin + before + bytes, wide - before - bytes);
  return begin + before;
}

// Resident and transparent-huge KiB of the mappings that [begin, end) touches, from the kernel's
// books.
struct ResidentKib {
  uint64_t all = 0;
  uint64_t huge = 0;
};

ResidentKib ReadResidentKib(uintptr_t begin, uintptr_t end) {
  ResidentKib resident;
  std::ifstream file("/proc/self/smaps");
  std::string line;
  bool ours = false;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (!first.empty() && first.back() != ':') {  // "begin-end permissions offset ..."
      std::istringstream range(first);
      uintptr_t from = 0;
      uintptr_t to = 0;
      char dash = 0;
      range >> std::hex >> from >> dash >> to;
      ours = from < end && begin < to;
      continue;
    }
    uint64_t kib = 0;
    if (!ours || !(words >> kib)) continue;
    if (first == "Rss:") resident.all += kib;
    if (first == "AnonHugePages:") resident.huge += kib;
  }
  return resident;
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

Arena::Arena(std::byte* data, uint64_t bytes, PageKind page_kind)
    : data_(data), bytes_(bytes), page_kind_(page_kind) {}

Arena::~Arena() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      page_kind_(other.page_kind_) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this == &other) return *this;
  if (data_ != nullptr) munmap(data_, bytes_);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  page_kind_ = other.page_kind_;
  return *this;
}

absl::StatusOr<Arena> Arena::Map(uint64_t bytes, const ArenaOptions& options) {
  if (bytes == 0) return absl::InvalidArgumentError("an arena of 0 bytes was asked for");
  if (absl::Status status = CheckNumaPolicy(options.numa); !status.ok()) return status;
  if (bytes > std::numeric_limits<uint64_t>::max() / 2) {
    return absl::ResourceExhaustedError(absl::StrCat(bytes, " bytes of memory cannot be mapped"));
  }

  const uint64_t huge_bytes = RoundUp(bytes, kHugePageBytes);
  if (options.try_hugetlb && EnoughHugetlbPages(huge_bytes, options.numa)) {
    void* const mapped =
        mmap(nullptr, huge_bytes, kProtection, kFlags | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
    if (mapped != MAP_FAILED) {
      Arena arena(static_cast<std::byte*>(mapped), huge_bytes, PageKind::kHugetlb2M);
      if (absl::Status status = ApplyNumaPolicy(options.numa, arena.data_, huge_bytes);
          !status.ok()) {
        return status;
      }
      return arena;
    }
  }

  const bool transparent = options.try_transparent_huge && TransparentHugePagesEnabled();
  const uint64_t mapped_bytes = transparent ? huge_bytes : RoundUp(bytes, kSmallPageBytes);
  std::byte* const data = MapAligned(mapped_bytes);
  if (data == nullptr) {
    const int error = errno;
    return absl::ResourceExhaustedError(absl::StrCat(
        bytes, " bytes of memory cannot be mapped: ", std::generic_category().message(error),
        "; raise the process's address-space limit (ulimit -v) or vm.overcommit_memory"));
  }
  Arena arena(data, mapped_bytes, transparent ? PageKind::kTransparentHuge : PageKind::kSmall);
  if (madvise(data, mapped_bytes, transparent ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) != 0) {
    arena.page_kind_ = PageKind::kSmall;  // a kernel without transparent huge pages
  }
  if (absl::Status status = ApplyNumaPolicy(options.numa, data, mapped_bytes); !status.ok()) {
    return status;
  }
  return arena;
}

absl::Status Arena::Populate(uint64_t offset, uint64_t length) {
  if (offset > bytes_ || length > bytes_ - offset) {
    return absl::InvalidArgumentError(absl::StrCat("bytes ", offset, " to ", offset, " + ", length,
                                                   " are outside the arena of ", bytes_, " bytes"));
  }
  if (length == 0) return absl::OkStatus();
  const uint64_t begin = offset / kSmallPageBytes * kSmallPageBytes;
  const uint64_t end = RoundUp(offset + length, kSmallPageBytes);
  int result = 0;
  do {
    result = madvise(data_ + begin, end - begin, MADV_POPULATE_WRITE);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  const int error = errno;
  if (error == EINVAL) {
    // A kernel before 5.14. An atomic OR with nothing changes no byte that another thread may be
    // filling.
    for (uint64_t at = begin; at < end; at += kSmallPageBytes) {
      __atomic_fetch_or(reinterpret_cast<unsigned char*>(data_ + at), 0, __ATOMIC_RELAXED);
    }
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for ", length, " bytes of an arena of ", bytes_, " bytes (",
                   Name(page_kind_), " pages): ", std::generic_category().message(error),
                   "; free memory or serve fewer tables on this machine"));
}

void Arena::ConfirmPageKind() {
  if (page_kind_ != PageKind::kTransparentHuge) return;
  const auto begin = reinterpret_cast<uintptr_t>(data_);
  const ResidentKib resident = ReadResidentKib(begin, begin + bytes_);
  if (resident.huge * 2 < resident.all) page_kind_ = PageKind::kSmall;
}

}  // namespace engram
