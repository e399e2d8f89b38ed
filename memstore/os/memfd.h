// Memory that two processes share: memfds, their seals and their mappings.
//
// Whoever maps a descriptor that another process sent checks its seals and its size first
// (MapSealed): a file that could still shrink would turn a read into SIGBUS. Mappings are not
// inherited by a forked child. Functions are stateless and thread-safe; a Mapping is owned by
// one place at a time.
#pragma once

#include <fcntl.h>

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/os/posix_file.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010  // Linux 5.1
#endif

namespace engram {

// Rows: nobody writes any more but through a mapping that the owner made before.
inline constexpr int kReadOnlySeals =
    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
// A ring: both sides write, the size stays.
inline constexpr int kWritableSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

enum class MemfdPages { kAsTheKernelChooses, kHugetlb2M };

// `name` is for /proc alone. `bytes` are whole pages of the kind. Never has the number of a
// standard stream, not even where those are closed: what a library prints there would be written
// into it.
absl::StatusOr<FileDescriptor> CreateMemfd(const char* name, uint64_t bytes, MemfdPages pages);
absl::Status AddSeals(const FileDescriptor& memfd, int seals);

class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte* data, uint64_t bytes) : data_(data), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  // Forgets the memory without unmapping it: for a forked child, where it never was.
  void Abandon();

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

enum class Access { kRead, kReadWrite };

// All `bytes` of a memfd on a 2 MiB boundary, so that huge pages are mapped as such; nothing is
// resident through it yet. RESOURCE_EXHAUSTED when the kernel refuses.
absl::StatusOr<Mapping> MapMemfd(const FileDescriptor& memfd, uint64_t bytes, Access access);

// Of memory with holes. Pieces ascend and do not overlap. In a memfd they lie back to back, so that
// it has no holes, which whoever reads them would fill with memory.
struct MemoryPiece {
  uint64_t offset = 0;  // in the memory
  uint64_t bytes = 0;
  friend bool operator==(const MemoryPiece&, const MemoryPiece&) = default;
};
uint64_t BytesOf(absl::Span<const MemoryPiece> pieces);

// `bytes` of addresses on a 2 MiB boundary, which nobody can read or write. RESOURCE_EXHAUSTED.
absl::StatusOr<Mapping> ReserveAddresses(uint64_t bytes);
// As MapMemfd: memory of `bytes` with these pieces of it mapped; the holes are as ReserveAddresses
// leaves them. Offsets and sizes of pieces are whole pages of the memfd's kind.
absl::StatusOr<Mapping> MapMemfdPieces(const FileDescriptor& memfd, uint64_t bytes,
                                       absl::Span<const MemoryPiece> pieces, Access access);

// A descriptor that came from elsewhere: it must be a memfd with all of `seals`, and hold at least
// `least_bytes` and at most `most_bytes`. DATA_LOSS otherwise, naming `what`. Mapped whole, asked
// into huge pages, resident (as far as the kernel goes along), and not inherited by forks.
absl::StatusOr<Mapping> MapSealed(const FileDescriptor& memfd, int seals, Access access,
                                  uint64_t least_bytes, uint64_t most_bytes,
                                  absl::string_view what);

// The same of memory with holes, of `bytes` in all, for reading. DATA_LOSS, too, when the pieces do
// not ascend, overlap, are not whole pages of 4 KiB, reach beyond `bytes`, or are not just as long
// as the memfd. Without pieces there is no memory but addresses.
absl::StatusOr<Mapping> MapSealedPieces(const FileDescriptor& memfd, int seals, uint64_t bytes,
                                        absl::Span<const MemoryPiece> pieces,
                                        absl::string_view what);

// A memfd that holds `bytes` and never changes.
absl::StatusOr<FileDescriptor> SealedCopy(const char* name, absl::string_view bytes);

}  // namespace engram
