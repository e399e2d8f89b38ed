// The CUDA backend of device.h. Needs no nvcc, only the runtime's header and library; the driver's
// stream memory operations are asked for at run time, so that nothing links against the driver.
#include "gpu/device/cuda_device.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gpu/device/cuda_stream.h"
#include "memstore/os/futex.h"

namespace engram {
namespace {

class CudaRegistered : public RegisteredMemory {
 public:
  CudaRegistered(void* memory, const std::byte* on_device)
      : memory_(memory), on_device_(on_device) {}
  ~CudaRegistered() override { cudaHostUnregister(memory_); }
  const std::byte* on_device() const override { return on_device_; }

 private:
  void* const memory_;
  const std::byte* const on_device_;
};

class CudaDevice : public Device {
 public:
  CudaDevice(int ordinal, const cudaDeviceProp& properties, CudaMemoryOperations operations)
      : ordinal_(ordinal), properties_(properties), operations_(operations) {}

  DeviceKind kind() const override { return DeviceKind::kCuda; }
  std::string Describe() const override {
    return absl::StrCat(properties_.name, ", sm_", properties_.major, properties_.minor,
                        operations_.wait32 == nullptr ? ", without stream memory operations" : "");
  }
  uint32_t multiprocessors() const override { return properties_.multiProcessorCount; }
  bool host_writes_device_memory() const override { return false; }
  absl::StatusOr<DeviceBuffer> Allocate(MemoryKind kind, size_t bytes) override;
  absl::StatusOr<std::unique_ptr<Stream>> MakeStream(const std::string&) override {
    return CudaStream::Make(ordinal_, operations_);
  }
  absl::StatusOr<std::unique_ptr<Stream>> BorrowStream(void* native) override {
    return CudaStream::Borrow(ordinal_, operations_, native);
  }
  absl::StatusOr<std::unique_ptr<Event>> MakeEvent() override { return CudaEvent::Make(ordinal_); }
  absl::StatusOr<std::unique_ptr<RegisteredMemory>> Register(
      absl::Span<const std::byte> memory) override;
  // Streams look by themselves; the threads that stand in for them sleep.
  void WordChanged(const std::atomic<uint32_t>& word) override {
    if (operations_.wait32 == nullptr) FutexWakeAll(word);
  }

 private:
  void Free(MemoryKind kind, std::byte* memory, size_t) override {
    kind == MemoryKind::kDevice ? cudaFree(memory) : cudaFreeHost(memory);
  }

  const int ordinal_;
  const cudaDeviceProp properties_;
  const CudaMemoryOperations operations_;
};

absl::StatusOr<DeviceBuffer> CudaDevice::Allocate(MemoryKind kind, size_t bytes) {
  cudaSetDevice(ordinal_);
  void* memory = nullptr;
  if (kind == MemoryKind::kPinnedHost) {
    const cudaError_t error =
        cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
    if (absl::Status status = CudaStatus(error, "pinning host memory"); !status.ok()) return status;
    std::memset(memory, 0, bytes);
    return DeviceBuffer(this, kind, static_cast<std::byte*>(memory), bytes);
  }
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is not sticky, and is told here
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return absl::ResourceExhaustedError(
        absl::StrCat(bytes, " bytes of device memory are not to be had: ", free_bytes, " of ",
                     total_bytes, " are free"));
  }
  if (absl::Status status = CudaStatus(error, "allocating device memory"); !status.ok()) {
    return status;
  }
  DeviceBuffer buffer(this, kind, static_cast<std::byte*>(memory), bytes);
  if (absl::Status status = CudaStatus(cudaMemset(memory, 0, bytes), "zeroing device memory");
      !status.ok()) {
    return status;
  }
  return buffer;
}

absl::StatusOr<std::unique_ptr<RegisteredMemory>> CudaDevice::Register(
    absl::Span<const std::byte> memory) {
  cudaSetDevice(ordinal_);
  int read_only = 0;
  cudaDeviceGetAttribute(&read_only, cudaDevAttrHostRegisterReadOnlySupported, ordinal_);
  if (read_only == 0) {
    return absl::UnimplementedError(
        absl::StrCat(Describe(),
                     " cannot read memory that is mapped read-only: fetch rows through "
                     "the transport instead"));
  }
  void* const start = const_cast<std::byte*>(memory.data());
  const unsigned flags =
      cudaHostRegisterPortable | cudaHostRegisterMapped | cudaHostRegisterReadOnly;
  absl::Status status = CudaStatus(cudaHostRegister(start, memory.size(), flags),
                                   absl::StrCat("registering ", memory.size(), " bytes"));
  if (!status.ok()) return status;
  void* on_device = nullptr;
  status = CudaStatus(cudaHostGetDevicePointer(&on_device, start, 0), "mapping registered memory");
  if (!status.ok()) {
    cudaHostUnregister(start);
    return status;
  }
  return std::unique_ptr<RegisteredMemory>(
      new CudaRegistered(start, static_cast<const std::byte*>(on_device)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(const DeviceOptions& options) {
  int driver = 0;
  int devices = 0;
  // What fails here leaves a 0, which CheckCudaVersions explains.
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  absl::Status status = CheckCudaVersions(driver, CUDART_VERSION, devices, options.ordinal);
  if (!status.ok()) return status;
  cudaDeviceProp properties;
  status = CudaStatus(cudaSetDevice(options.ordinal), "taking the device");
  if (status.ok()) {
    status = CudaStatus(cudaGetDeviceProperties(&properties, options.ordinal), "asking the device");
  }
  if (!status.ok()) return status;
  return std::unique_ptr<Device>(
      new CudaDevice(options.ordinal, properties, FindCudaMemoryOperations(options.ordinal)));
}

}  // namespace engram
