#include "memstore/os/memfd.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14
#endif

namespace engram {
namespace {

constexpr uint64_t kSmallPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2u << 20;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

absl::Status Refused(absl::string_view doing, uint64_t bytes) {
  const int error = errno;
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot ", doing, " ", bytes,
                   " bytes of shared memory: ", std::generic_category().message(error),
                   "; raise the limits of the process (ulimit -v, -n) or the control group's"));
}

// So that a warm lookup meets no page fault. What cannot be made resident now is met later.
void MakeResident(std::byte* data, uint64_t bytes) {
  if (madvise(data, bytes, MADV_POPULATE_READ) == 0 || errno != EINVAL) return;
  for (uint64_t at = 0; at < bytes; at += kSmallPageBytes) {  // a kernel before 5.14
    static_cast<void>(*reinterpret_cast<const volatile std::byte*>(data + at));
  }
}

// The size of a descriptor that came from elsewhere, once it is a memfd with all of `seals`.
absl::StatusOr<uint64_t> SealedBytes(const FileDescriptor& memfd, int seals,
                                     absl::string_view what) {
  const int there = fcntl(memfd.get(), F_GET_SEALS);
  // A file that nobody at all can write is as good as one that only its owner can.
  const bool read_only = there >= 0 && (there & F_SEAL_WRITE) != 0;
  const int needed = read_only ? seals & ~F_SEAL_FUTURE_WRITE : seals;
  if (there < 0 || (there & needed) != needed) {
    return absl::DataLossError(absl::StrCat(
        what, " is not sealed shared memory: whoever sent it is no engramd of this version"));
  }
  struct stat stat;
  if (fstat(memfd.get(), &stat) != 0) return PosixError("look at", what);
  return static_cast<uint64_t>(stat.st_size);
}

absl::StatusOr<Mapping> MapWarm(const FileDescriptor& memfd, uint64_t bytes,
                                absl::Span<const MemoryPiece> pieces, Access access,
                                absl::string_view what) {
  absl::StatusOr<Mapping> mapping = MapMemfdPieces(memfd, bytes, pieces, access);
  if (!mapping.ok()) return mapping;
  if (madvise(mapping->data(), bytes, MADV_DONTFORK) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot keep ", what, " from forked children"));
  }
  for (const MemoryPiece& piece : pieces) {
    std::byte* const data = mapping->data() + piece.offset;
    // An error says that there are no transparent huge pages here, or huge ones already.
    static_cast<void>(madvise(data, piece.bytes, MADV_HUGEPAGE));
    MakeResident(data, piece.bytes);
  }
  return mapping;
}

}  // namespace

absl::StatusOr<FileDescriptor> CreateMemfd(const char* name, uint64_t bytes, MemfdPages pages) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (pages == MemfdPages::kHugetlb2M) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name, flags);
  if (fd < 0) return Refused("make a memfd of", bytes);
  FileDescriptor memfd(fd);
  if (fd <= STDERR_FILENO) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0) return Refused("make a memfd of", bytes);
    memfd = FileDescriptor(fd);
  }
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return Refused("size a memfd to", bytes);
  return memfd;
}

absl::Status AddSeals(const FileDescriptor& memfd, int seals) {
  if (fcntl(memfd.get(), F_ADD_SEALS, seals) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot seal shared memory (Linux 5.1 or later is needed)");
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

void Mapping::Abandon() {
  data_ = nullptr;
  bytes_ = 0;
}

absl::StatusOr<Mapping> ReserveAddresses(uint64_t bytes) {
  const uint64_t whole = RoundUp(bytes, kSmallPageBytes);
  const uint64_t wide = whole + kHugePageBytes;
  void* const reserved =
      mmap(nullptr, wide, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return Refused("map", bytes);
  auto* const begin = static_cast<std::byte*>(reserved);
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const uint64_t before = RoundUp(address, kHugePageBytes) - address;
  std::byte* const data = begin + before;
  const uint64_t after = wide - before - whole;
  if (before != 0) munmap(begin, before);
  if (after != 0) munmap(data + whole, after);
  return Mapping(data, bytes);
}

uint64_t BytesOf(absl::Span<const MemoryPiece> pieces) {
  uint64_t bytes = 0;
  for (const MemoryPiece& piece : pieces) bytes += piece.bytes;
  return bytes;
}

absl::StatusOr<Mapping> MapMemfdPieces(const FileDescriptor& memfd, uint64_t bytes,
                                       absl::Span<const MemoryPiece> pieces, Access access) {
  absl::StatusOr<Mapping> memory = ReserveAddresses(bytes);
  if (!memory.ok()) return memory;
  const int protection = access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  uint64_t at = 0;  // in the memfd
  for (const MemoryPiece& piece : pieces) {
    if (mmap(memory->data() + piece.offset, piece.bytes, protection, MAP_SHARED | MAP_FIXED,
             memfd.get(), static_cast<off_t>(at)) == MAP_FAILED) {
      return Refused("map", piece.bytes);
    }
    at += piece.bytes;
  }
  return memory;
}

absl::StatusOr<Mapping> MapMemfd(const FileDescriptor& memfd, uint64_t bytes, Access access) {
  return MapMemfdPieces(memfd, bytes, {{.offset = 0, .bytes = bytes}}, access);
}

absl::StatusOr<Mapping> MapSealed(const FileDescriptor& memfd, int seals, Access access,
                                  uint64_t least_bytes, uint64_t most_bytes,
                                  absl::string_view what) {
  absl::StatusOr<uint64_t> bytes = SealedBytes(memfd, seals, what);
  if (!bytes.ok()) return bytes.status();
  if (*bytes < least_bytes || *bytes > most_bytes || *bytes == 0) {
    return absl::DataLossError(absl::StrCat(what, " has ", *bytes, " bytes, ", least_bytes, " to ",
                                            most_bytes,
                                            " are needed: the owner and the manifest disagree"));
  }
  return MapWarm(memfd, *bytes, {{.offset = 0, .bytes = *bytes}}, access, what);
}

absl::StatusOr<Mapping> MapSealedPieces(const FileDescriptor& memfd, int seals, uint64_t bytes,
                                        absl::Span<const MemoryPiece> pieces,
                                        absl::string_view what) {
  absl::StatusOr<uint64_t> there = SealedBytes(memfd, seals, what);
  if (!there.ok()) return there.status();
  uint64_t end = 0;
  for (const MemoryPiece& piece : pieces) {
    if (piece.offset < end || piece.offset % kSmallPageBytes != 0 || piece.bytes == 0 ||
        piece.bytes % kSmallPageBytes != 0 || piece.offset > bytes ||
        piece.bytes > bytes - piece.offset) {
      return absl::DataLossError(
          absl::StrCat(what, " has ", piece.bytes, " bytes at ", piece.offset, " of ", bytes,
                       ", which are no pieces of it: the owner and the manifest disagree"));
    }
    end = piece.offset + piece.bytes;
  }
  if (*there != BytesOf(pieces)) {
    return absl::DataLossError(absl::StrCat(what, " has ", *there, " bytes, its pieces have ",
                                            BytesOf(pieces), ": the owner contradicts itself"));
  }
  return MapWarm(memfd, bytes, pieces, Access::kRead, what);
}

absl::StatusOr<FileDescriptor> SealedCopy(const char* name, absl::string_view bytes) {
  absl::StatusOr<FileDescriptor> memfd =
      CreateMemfd(name, bytes.size(), MemfdPages::kAsTheKernelChooses);
  if (!memfd.ok()) return memfd;
  absl::Status status =
      WriteFully(*memfd, 0, {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, name);
  if (status.ok()) status = AddSeals(*memfd, kReadOnlySeals | F_SEAL_WRITE);
  if (!status.ok()) return status;
  return memfd;
}

}  // namespace engram
