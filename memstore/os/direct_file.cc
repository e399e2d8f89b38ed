#include "memstore/os/direct_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

constexpr uint64_t kHugePage = 2u << 20;

constexpr uint64_t RoundDown(uint64_t n) { return n / kDirectAlignment * kDirectAlignment; }
constexpr uint64_t RoundUp(uint64_t n) { return RoundDown(n + kDirectAlignment - 1); }

// Sets direct I/O on or off for an open file; false where the file system (tmpfs and others) has
// none. Not a flag of open(2): a failed one would leave a new file behind.
bool SetDirect(const FileDescriptor& file, bool direct) {
  const int flags = fcntl(file.get(), F_GETFL);
  if (flags < 0) return false;
  return fcntl(file.get(), F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

absl::Status EndsBefore(const std::string& path) {
  return absl::OutOfRangeError(path + " ends before the bytes that were asked for");
}

}  // namespace

absl::Span<std::byte> PageBuffer::Reserve(uint64_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = 0;
    // On huge pages where it is as long as one: a read is then a few large requests to the device,
    // else one of as many pieces as it has small pages.
    const bool is_long = bytes >= kHugePage;
    const uint64_t alignment = is_long ? kHugePage : kDirectAlignment;
    const uint64_t wanted = (bytes + alignment - 1) / alignment * alignment;
    auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, wanted));
    if (data == nullptr) throw std::bad_alloc();
    if (is_long) madvise(data, wanted, MADV_HUGEPAGE);  // where there are none, small ones do
    data_.reset(data);
    bytes_ = wanted;
  }
  return {data_.get(), bytes_};
}

void PageBuffer::Free::operator()(std::byte* data) const { std::free(data); }

absl::StatusOr<DirectReader> DirectReader::Open(const std::string& path) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!file.ok()) return file.status();
  absl::StatusOr<uint64_t> bytes = RegularFileBytes(*file, path);
  if (!bytes.ok()) return bytes.status();
  const bool direct = SetDirect(*file, true);
  return DirectReader(path, std::move(*file), *bytes, direct);
}

DirectReader::DirectReader(DirectReader&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      bytes_(other.bytes_),
      direct_(other.direct_.load()) {}

absl::StatusOr<absl::Span<const std::byte>> DirectReader::Read(uint64_t offset, uint64_t length,
                                                               PageBuffer& buffer) const {
  if (offset > bytes_ || length > bytes_ - offset) return EndsBefore(path_);
  // The pages around the bytes; the last one may reach over the file's end.
  const uint64_t begin = RoundDown(offset);
  const uint64_t pages = RoundUp(offset + length - begin);
  const absl::Span<std::byte> out = buffer.Reserve(pages).first(pages);
  if (absl::Status status = Fill(begin, out); !status.ok()) return status;
  return absl::Span<const std::byte>(out).subspan(offset - begin, length);
}

absl::Status DirectReader::ReadPages(uint64_t offset, absl::Span<std::byte> pages) const {
  if (offset > bytes_ || pages.size() > bytes_ - offset) return EndsBefore(path_);
  return Fill(offset, pages);
}

// Of the pages what the file has.
absl::Status DirectReader::Fill(uint64_t begin, absl::Span<std::byte> pages) const {
  const uint64_t there = std::min<uint64_t>(pages.size(), bytes_ - begin);
  for (uint64_t got = 0; got < there;) {
    const bool direct = direct_.load();
    const ssize_t n =
        pread(file_.get(), pages.data() + got, pages.size() - got, static_cast<off_t>(begin + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EINVAL && direct && SetDirect(file_, false)) {
      direct_.store(false);
      continue;
    }
    if (n < 0) return ReadError(path_, begin + got);
    // Direct reads go on from a page: what a short one left unaligned is read again.
    const uint64_t next = got + static_cast<uint64_t>(n);
    const uint64_t resume = direct && next < there ? RoundDown(next) : next;
    if (resume == got) {
      return absl::DataLossError(absl::StrCat(path_, " ends at byte ", begin + next,
                                              ": it was cut off while it was read"));
    }
    got = resume;
  }
  if (!direct_.load()) {
    posix_fadvise(file_.get(), static_cast<off_t>(begin), static_cast<off_t>(pages.size()),
                  POSIX_FADV_DONTNEED);
  }
  return absl::OkStatus();
}

absl::StatusOr<DirectWriter> DirectWriter::Create(const std::string& path, uint64_t bytes) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_WRONLY | O_CREAT | O_EXCL);
  if (!file.ok()) return file.status();
  // Not posix_fallocate: where there is no such call it writes the file full of zeros.
  if (fallocate(file->get(), 0, 0, static_cast<off_t>(bytes)) != 0 && errno != EOPNOTSUPP) {
    return PosixError("take room for", path);
  }
  const bool direct = SetDirect(*file, true);
  return DirectWriter(path, std::move(*file), direct);
}

DirectWriter::DirectWriter(DirectWriter&& other) noexcept
    : path_(std::move(other.path_)), file_(std::move(other.file_)), direct_(other.direct_.load()) {}

absl::Status DirectWriter::Write(uint64_t offset, absl::Span<const std::byte> pages) const {
  absl::Status status = WriteFully(file_, offset, pages, path_);
  // Some file systems (overlayfs over tmpfs) take the flag and then refuse to write by it.
  if (absl::IsInvalidArgument(status) && direct_.load() && SetDirect(file_, false)) {
    direct_.store(false);
    status = WriteFully(file_, offset, pages, path_);
  }
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
