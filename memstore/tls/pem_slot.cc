#include "memstore/tls/pem_slot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "memstore/os/memfd.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

constexpr char kName[] = "engram-tls";

// Above the standard streams: whoever closed them must not print into it.
constexpr int kFirstFd = 3;

}  // namespace

absl::Status PemSlot::Put(absl::string_view pem) {
  const absl::StatusOr<FileDescriptor> memfd =
      CreateMemfd(kName, pem.size(), MemfdPages::kAsTheKernelChooses);
  if (!memfd.ok()) return memfd.status();
  const auto* const bytes = reinterpret_cast<const std::byte*>(pem.data());
  absl::Status written = WriteFully(*memfd, 0, absl::MakeSpan(bytes, pem.size()), kName);
  if (!written.ok()) return written;
  const timespec when{.tv_sec = next_time_, .tv_nsec = 0};
  const timespec times[] = {when, when};
  if (futimens(memfd->get(), times) != 0) return PosixError("set the time of", kName);
  if (fd_ < 0) {
    fd_ = fcntl(memfd->get(), F_DUPFD_CLOEXEC, kFirstFd);
    if (fd_ < 0) return PosixError("keep", kName);
  } else if (dup3(memfd->get(), fd_, O_CLOEXEC) < 0) {
    return PosixError("replace", kName);
  }
  ++next_time_;
  return absl::OkStatus();
}

std::string PemSlot::Path() const { return fd_ < 0 ? "" : absl::StrCat("/proc/self/fd/", fd_); }

}  // namespace engram
