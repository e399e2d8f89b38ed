// Compares files with the digests that their names give, while something else is done with them.
//
// Used by one thread, but failed() by any. Cost: each file is read once more, past the page cache,
// at the digest's speed (about 2 GB/s a thread), with a few megabytes of memory a thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/base/mutex.h"
#include "memstore/safetensors/checkpoint_files.h"

namespace engram {

class BlobDigests {
 public:
  // Begins with `blobs`; none of them: nothing runs. RESOURCE_EXHAUSTED where no thread starts.
  static absl::StatusOr<std::unique_ptr<BlobDigests>> Begin(std::vector<Blob> blobs);
  // Ends what still runs.
  ~BlobDigests();

  // Whether a file was found that differs, or could not be read: Wait() says which.
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  // OK once every file is what its name says. DATA_LOSS names the one that is not.
  absl::Status Wait();

 private:
  explicit BlobDigests(std::vector<Blob> blobs) : blobs_(std::move(blobs)) {}
  void Run();
  absl::Status Compare(const Blob& blob) const;
  absl::Status CompareOrThrow(const Blob& blob) const;  // std::bad_alloc

  const std::vector<Blob> blobs_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace engram
