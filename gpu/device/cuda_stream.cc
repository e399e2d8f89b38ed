#include "gpu/device/cuda_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gpu/device/word_wait.h"
#include "memstore/base/clock.h"
#include "memstore/os/futex.h"

namespace engram {
namespace {

// Looks at an event without sleeping for this long, then every so often.
constexpr absl::Duration kEventSpin = absl::Microseconds(200);
constexpr absl::Duration kEventSleep = absl::Microseconds(20);
// Waits that host functions stand in for and that are pending at once, as many as CUDA queues.
constexpr size_t kPendingWaits = 1024;

void* FindDriverFunction(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? function : nullptr;
}

}  // namespace

absl::Status CudaStatus(cudaError_t error, absl::string_view doing) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message = absl::StrCat(doing, ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

CudaMemoryOperations FindCudaMemoryOperations(int ordinal) {
  CudaMemoryOperations operations;
  cudaSetDevice(ordinal);
  operations.wait32 =
      reinterpret_cast<decltype(operations.wait32)>(FindDriverFunction("cuStreamWaitValue32"));
  if (operations.wait32 == nullptr) return operations;
  void* word = nullptr;
  cudaStream_t stream = nullptr;
  bool works = cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocMapped) == cudaSuccess &&
               cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess;
  if (works) {
    *static_cast<uint32_t*>(word) = 1;
    works = operations.wait32(stream, reinterpret_cast<CUdeviceptr>(word), 1,
                              CU_STREAM_WAIT_VALUE_AND) == CUDA_SUCCESS &&
            cudaStreamSynchronize(stream) == cudaSuccess;
  }
  if (stream != nullptr) cudaStreamDestroy(stream);
  cudaFreeHost(word);
  if (!works) operations.wait32 = nullptr;
  return operations;
}

absl::StatusOr<std::unique_ptr<Event>> CudaEvent::Make(int ordinal) {
  cudaSetDevice(ordinal);
  cudaEvent_t event = nullptr;
  absl::Status status =
      CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  if (!status.ok()) return status;
  return std::unique_ptr<Event>(new CudaEvent(event));
}

absl::Status CudaEvent::Wait(MonotonicTime deadline) {
  // An engine may be capturing in another thread meanwhile, in the mode that no query may disturb.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  absl::Status status = Look(deadline);
  cudaThreadExchangeStreamCaptureMode(&mode);
  return status;
}

absl::Status CudaEvent::Look(MonotonicTime deadline) {
  cudaError_t state = cudaErrorNotReady;
  const auto ended = [&] { return (state = cudaEventQuery(event_)) != cudaErrorNotReady; };
  if (!SpinUntil(ended, std::min(kEventSpin, deadline - RealClock().Now()))) {
    while (!ended()) {
      if (RealClock().Now() >= deadline) {
        return absl::DeadlineExceededError("the stream has not come to the event yet");
      }
      RealClock().SleepFor(kEventSleep);
    }
  }
  return CudaStatus(state, "waiting for an event");
}

// A graph, and what its host functions read.
class CudaStream::Captured : public Graph {
 public:
  Captured(cudaGraphExec_t graph, std::vector<std::unique_ptr<WordWait>> waits)
      : graph(graph), waits(std::move(waits)) {}
  ~Captured() override { cudaGraphExecDestroy(graph); }

  const cudaGraphExec_t graph;
  const std::vector<std::unique_ptr<WordWait>> waits;
};

absl::StatusOr<std::unique_ptr<Stream>> CudaStream::Make(int ordinal,
                                                         const CudaMemoryOperations& operations) {
  cudaSetDevice(ordinal);
  cudaStream_t stream = nullptr;
  absl::Status status =
      CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  if (!status.ok()) return status;
  return std::unique_ptr<Stream>(new CudaStream(ordinal, operations, stream, true));
}

absl::StatusOr<std::unique_ptr<Stream>> CudaStream::Borrow(int ordinal,
                                                           const CudaMemoryOperations& operations,
                                                           void* native) {
  return std::unique_ptr<Stream>(
      new CudaStream(ordinal, operations, static_cast<cudaStream_t>(native), false));
}

CudaStream::CudaStream(int ordinal, const CudaMemoryOperations& operations, cudaStream_t stream,
                       bool owned)
    : ordinal_(ordinal),
      operations_(operations),
      stream_(stream),
      owned_(owned),
      waits_(operations.wait32 == nullptr ? kPendingWaits : 0) {}

CudaStream::~CudaStream() {
  if (!owned_) return;
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

absl::Status CudaStream::Copy(void* to, const void* from, size_t bytes) {
  return CudaStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "copying");
}

absl::Status CudaStream::WaitWord(const std::atomic<uint32_t>* word, WordTest test,
                                  uint32_t value) {
  if (operations_.wait32 == nullptr) return WaitWordOnHost(word, test, value);
  const unsigned flags =
      test == WordTest::kAtLeast ? CU_STREAM_WAIT_VALUE_GEQ : CU_STREAM_WAIT_VALUE_AND;
  cudaSetDevice(ordinal_);
  const CUresult result =
      operations_.wait32(stream_, reinterpret_cast<CUdeviceptr>(word), value, flags);
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("having a stream wait for a word: the driver's error ", result));
}

absl::Status CudaStream::WaitWordOnHost(const std::atomic<uint32_t>* word, WordTest test,
                                        uint32_t value) {
  WordWait* wait = nullptr;
  if (capturing()) {
    wait = captured_waits_.emplace_back(std::make_unique<WordWait>()).get();
  } else {
    wait = &waits_[next_wait_++ % waits_.size()];
    if (wait->pending.load(std::memory_order_acquire)) {
      return absl::ResourceExhaustedError("the stream has too many waits pending");
    }
    wait->pending.store(true, std::memory_order_relaxed);
  }
  wait->word = word;
  wait->test = test;
  wait->value = value;
  return CallHost(
      [](void* argument) {
        auto* const stands_in = static_cast<WordWait*>(argument);
        AwaitWord(*stands_in->word, stands_in->test, stands_in->value, kEventSpin);
        stands_in->pending.store(false, std::memory_order_release);
      },
      wait);
}

absl::Status CudaStream::Record(Event& event) {
  return CudaStatus(cudaEventRecord(static_cast<CudaEvent&>(event).native(), stream_),
                    "recording an event");
}

absl::Status CudaStream::WaitEvent(Event& event) {
  return CudaStatus(cudaStreamWaitEvent(stream_, static_cast<CudaEvent&>(event).native(), 0),
                    "having a stream wait for an event");
}

absl::Status CudaStream::CallHost(void (*function)(void*), void* argument) {
  cudaSetDevice(ordinal_);
  return CudaStatus(cudaLaunchHostFunc(stream_, function, argument), "enqueuing a host function");
}

absl::Status CudaStream::Synchronize() {
  return CudaStatus(cudaStreamSynchronize(stream_), "the stream's work");
}

bool CudaStream::capturing() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream_, &status);
  return status == cudaStreamCaptureStatusActive;
}

absl::Status CudaStream::BeginCapture() {
  return CudaStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                    "beginning a capture");
}

absl::StatusOr<std::unique_ptr<Graph>> CudaStream::EndCapture() {
  cudaGraph_t graph = nullptr;
  absl::Status status = CudaStatus(cudaStreamEndCapture(stream_, &graph), "ending a capture");
  if (!status.ok()) return status;
  cudaGraphExec_t executable = nullptr;
  status = CudaStatus(cudaGraphInstantiate(&executable, graph, 0), "making a graph");
  cudaGraphDestroy(graph);
  if (!status.ok()) return status;
  return std::unique_ptr<Graph>(new Captured(executable, std::exchange(captured_waits_, {})));
}

absl::Status CudaStream::Launch(Graph& graph) {
  cudaSetDevice(ordinal_);
  return CudaStatus(cudaGraphLaunch(static_cast<Captured&>(graph).graph, stream_),
                    "launching a graph");
}

}  // namespace engram
