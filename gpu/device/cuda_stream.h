// The CUDA backend's streams and events. Contract: device.h.
//
// A stream waits for a word by itself (cuStreamWaitValue32). Where the driver has no such operation
// a host function waits in its place: it occupies one of CUDA's own threads, and no other host
// function of the process runs meanwhile; words are therefore never set by one.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "gpu/device/device.h"
#include "memstore/base/clock.h"

namespace engram {

// The driver's operations, or null.
struct CudaMemoryOperations {
  CUresult (*wait32)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = nullptr;
};
// Tries what it finds, once, on a stream of the device.
CudaMemoryOperations FindCudaMemoryOperations(int ordinal);

// RESOURCE_EXHAUSTED for memory, INTERNAL for all else but success; `doing` names the call.
absl::Status CudaStatus(cudaError_t error, absl::string_view doing);

class CudaEvent : public Event {
 public:
  static absl::StatusOr<std::unique_ptr<Event>> Make(int ordinal);
  ~CudaEvent() override { cudaEventDestroy(event_); }
  absl::Status Wait(MonotonicTime deadline) override;
  cudaEvent_t native() const { return event_; }

 private:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  absl::Status Look(MonotonicTime deadline);

  const cudaEvent_t event_;
};

class CudaStream : public Stream {
 public:
  static absl::StatusOr<std::unique_ptr<Stream>> Make(int ordinal,
                                                      const CudaMemoryOperations& operations);
  static absl::StatusOr<std::unique_ptr<Stream>> Borrow(int ordinal,
                                                        const CudaMemoryOperations& operations,
                                                        void* native);
  ~CudaStream() override;

  absl::Status Copy(void* to, const void* from, size_t bytes) override;
  absl::Status WaitWord(const std::atomic<uint32_t>* word, WordTest test, uint32_t value) override;
  absl::Status Record(Event& event) override;
  absl::Status WaitEvent(Event& event) override;
  absl::Status CallHost(void (*function)(void*), void* argument) override;
  absl::Status Synchronize() override;
  absl::Status BeginCapture() override;
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture() override;
  bool capturing() const override;
  absl::Status Launch(Graph& graph) override;
  void* native() const override { return stream_; }

 protected:
  absl::Status EnqueueKernel(void (*)(const void*), const void*, size_t) override {
    return absl::UnimplementedError("a callable is no kernel of a CUDA device");
  }

 private:
  // What a host function that stands in for WaitWord reads.
  struct WordWait {
    const std::atomic<uint32_t>* word = nullptr;
    WordTest test = WordTest::kAnyBit;
    uint32_t value = 0;
    std::atomic<bool> pending{false};
  };
  class Captured;

  CudaStream(int ordinal, const CudaMemoryOperations& operations, cudaStream_t stream, bool owned);
  absl::Status WaitWordOnHost(const std::atomic<uint32_t>* word, WordTest test, uint32_t value);

  const int ordinal_;
  const CudaMemoryOperations operations_;
  const cudaStream_t stream_;
  const bool owned_;
  std::vector<WordWait> waits_;  // reused in turn; empty where the stream waits by itself
  size_t next_wait_ = 0;
  // Of captures that are not this object's to keep (an engine's own), and of those under way.
  std::vector<std::unique_ptr<WordWait>> captured_waits_;
};

}  // namespace engram
