#include "memstore/table/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace engram {
namespace {

constexpr uint64_t RoundDown(uint64_t n) { return n / kDirectAlignment * kDirectAlignment; }
constexpr uint64_t RoundUp(uint64_t n) { return RoundDown(n + kDirectAlignment - 1); }

// Sets direct I/O on an open file; false where the file system (tmpfs and others) has none. Not a
// flag of open(2): a failed one would leave a new file behind.
bool SetDirect(const FileDescriptor& file) {
  const int flags = fcntl(file.get(), F_GETFL);
  return flags >= 0 && fcntl(file.get(), F_SETFL, flags | O_DIRECT) == 0;
}

}  // namespace

absl::Span<std::byte> PageBuffer::Reserve(uint64_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = RoundUp(bytes);
    auto* data = static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, bytes_));
    if (data == nullptr) throw std::bad_alloc();
    data_.reset(data);
  }
  return {data_.get(), bytes_};
}

void PageBuffer::Free::operator()(std::byte* data) const { std::free(data); }

absl::StatusOr<DirectReader> DirectReader::Open(const std::string& path) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!file.ok()) return file.status();
  absl::StatusOr<uint64_t> bytes = RegularFileBytes(*file, path);
  if (!bytes.ok()) return bytes.status();
  const bool direct = SetDirect(*file);
  return DirectReader(path, std::move(*file), *bytes, direct);
}

absl::StatusOr<absl::Span<const std::byte>> DirectReader::Read(uint64_t offset, uint64_t length,
                                                               PageBuffer& buffer) const {
  if (offset > bytes_ || length > bytes_ - offset) {
    return absl::OutOfRangeError(path_ + " ends before the bytes that were asked for");
  }
  // The pages around the bytes; the last one may reach over the file's end.
  const uint64_t begin = RoundDown(offset);
  const uint64_t pages = RoundUp(offset + length - begin);
  const uint64_t there = std::min(pages, bytes_ - begin);
  absl::Span<std::byte> out = buffer.Reserve(pages);
  for (uint64_t got = 0; got < there;) {
    const ssize_t n =
        pread(file_.get(), out.data() + got, pages - got, static_cast<off_t>(begin + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PosixError("read", path_);
    // Direct reads go on from a page: what a short one left unaligned is read again.
    const uint64_t next = got + static_cast<uint64_t>(n);
    const uint64_t resume = direct_ && next < there ? RoundDown(next) : next;
    if (resume == got) return absl::DataLossError(path_ + " was cut off while it was read");
    got = resume;
  }
  if (!direct_) posix_fadvise(file_.get(), begin, pages, POSIX_FADV_DONTNEED);
  return absl::Span<const std::byte>(out).subspan(offset - begin, length);
}

absl::StatusOr<DirectWriter> DirectWriter::Create(const std::string& path, uint64_t bytes) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_WRONLY | O_CREAT | O_EXCL);
  if (!file.ok()) return file.status();
  // Not posix_fallocate: where there is no such call it writes the file full of zeros.
  if (fallocate(file->get(), 0, 0, static_cast<off_t>(bytes)) != 0 && errno != EOPNOTSUPP) {
    return PosixError("take room for", path);
  }
  const bool direct = SetDirect(*file);
  return DirectWriter(path, std::move(*file), direct);
}

absl::Status DirectWriter::Write(uint64_t offset, absl::Span<const std::byte> pages) const {
  absl::Status status = WriteFully(file_, offset, pages, path_);
  if (!status.ok()) return status;
  // Write-back begins at once, so that Sync has little left to wait for.
  if (!direct_) {
    sync_file_range(file_.get(), static_cast<off_t>(offset), static_cast<off_t>(pages.size()),
                    SYNC_FILE_RANGE_WRITE);
  }
  return absl::OkStatus();
}

absl::Status DirectWriter::Sync() const {
  if (fsync(file_.get()) != 0) return PosixError("sync", path_);
  if (!direct_) posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
  return absl::OkStatus();
}

}  // namespace engram
