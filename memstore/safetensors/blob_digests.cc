#include "memstore/safetensors/blob_digests.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/direct_file.h"
#include "memstore/os/thread.h"
#include "memstore/safetensors/blob_hash.h"

namespace engram {
namespace {

// Large enough for a disk's speed; the digest is computed between two reads.
constexpr uint64_t kReadBytes = 4u << 20;
// Beside the threads that pack: two digests are as fast as most disks.
constexpr size_t kMaxThreads = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<BlobDigests>> BlobDigests::Begin(std::vector<Blob> blobs) {
  std::unique_ptr<BlobDigests> digests(new BlobDigests(std::move(blobs)));
  const size_t threads = std::min(digests->blobs_.size(), kMaxThreads);
  for (size_t i = 0; i < threads; ++i) {
    ENGRAM_ASSIGN_OR_RETURN(std::thread thread,
                            StartThread("engram-digest", [d = digests.get()] { d->Run(); }));
    digests->threads_.push_back(std::move(thread));
  }
  return digests;
}

BlobDigests::~BlobDigests() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
}

absl::Status BlobDigests::Wait() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  MutexLock lock(mutex_);
  return status_;
}

void BlobDigests::Run() {
  while (!stop_) {
    const size_t index = next_.fetch_add(1);
    if (index >= blobs_.size()) return;
    absl::Status compared = Compare(blobs_[index]);
    if (compared.ok()) continue;
    MutexLock lock(mutex_);
    status_.Update(std::move(compared));
    failed_ = true;
    stop_ = true;  // what the others find is of no use
  }
}

absl::Status BlobDigests::Compare(const Blob& blob) const {
  try {
    return CompareOrThrow(blob);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there is no memory to read ", blob.path, " with: free some"));
  }
}

absl::Status BlobDigests::CompareOrThrow(const Blob& blob) const {
  ENGRAM_ASSIGN_OR_RETURN(const DirectReader file, DirectReader::Open(blob.path));
  PageBuffer buffer;
  BlobHash hash(blob.digest, file.bytes());
  for (uint64_t at = 0; at < file.bytes();) {
    // Of a run that ended elsewhere nobody asks.
    if (stop_) return absl::CancelledError("stopped");
    const uint64_t length = std::min(kReadBytes, file.bytes() - at);
    ENGRAM_ASSIGN_OR_RETURN(const absl::Span<const std::byte> bytes, file.Read(at, length, buffer));
    hash.Update({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    at += length;
  }
  return CheckBlobDigest(blob, hash.FinishHex());
}

}  // namespace engram
