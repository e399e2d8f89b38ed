// Needs no nvcc: cuBLAS's header, and the library itself at run time alone, so that the program
// starts on machines that have none.
#include "gpu/simulator/cuda_backbone.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "gpu/simulator/backbone_cuda.h"

namespace engram::simulator {
namespace {

// What cuBLAS works in: given once, so that it allocates nothing later.
constexpr size_t kWorkspaceBytes = 32u << 20;

struct Cublas {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  // cublasGemmEx, which is overloaded in C++.
  cublasStatus_t (*multiply)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                             const void*, const void*, cudaDataType, int, const void*, cudaDataType,
                             int, const void*, void*, cudaDataType, int, cublasComputeType_t,
                             cublasGemmAlgo_t) = nullptr;
};

std::vector<std::string> ToolkitDirectories() {
  std::vector<std::string> directories;
  for (const char* name : {"CUDA_PATH", "CUDA_HOME"}) {
    const char* const root = std::getenv(name);
    if (root != nullptr) directories.push_back(absl::StrCat(root, "/lib64"));
  }
  directories.emplace_back("/usr/local/cuda/lib64");
  return directories;
}

// The library stays loaded until the process ends: it can't be unloaded from under a device.
absl::StatusOr<Cublas> LoadCublas(const std::vector<std::string>& directories) {
  const std::string name = absl::StrCat("libcublas.so.", CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  const std::string first_error = library == nullptr ? dlerror() : "";
  for (size_t i = 0; library == nullptr && i < directories.size(); ++i)
    library = dlopen(absl::StrCat(directories[i], "/", name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("the CUDA backbone needs cuBLAS: ", first_error, "; install ", name,
                     " (of the CUDA toolkit), or name its directory in LD_LIBRARY_PATH"));
  }
  Cublas cublas;
  const auto find = [library](const char* symbol, auto* function) {
    *function = reinterpret_cast<std::decay_t<decltype(*function)>>(dlsym(library, symbol));
    return *function != nullptr;
  };
  const bool complete = find("cublasCreate_v2", &cublas.create) &&
                        find("cublasDestroy_v2", &cublas.destroy) &&
                        find("cublasSetStream_v2", &cublas.set_stream) &&
                        find("cublasSetWorkspace_v2", &cublas.set_workspace) &&
                        find("cublasGemmEx", &cublas.multiply);
  if (complete) return cublas;
  return absl::FailedPreconditionError(absl::StrCat(name, " lacks a function: ", dlerror()));
}

absl::Status CublasStatus(cublasStatus_t status, absl::string_view doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message = absl::StrCat(doing, ": cuBLAS says ", static_cast<int>(status));
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

absl::Status KernelStatus(absl::string_view error) {
  if (error.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the backbone: ", error));
}

class CudaBackbone final : public Backbone {
 public:
  CudaBackbone(const BackboneShape& shape, const Cublas& cublas)
      : Backbone(shape), products_(BlockProducts(shape)), cublas_(cublas) {}
  ~CudaBackbone() override {
    if (handle_ != nullptr) cublas_.destroy(handle_);
  }

  absl::Status Allocate(uint32_t max_tokens, Device& device);
  absl::Status EnqueueBlock(uint32_t tokens, Stream& stream) override;
  absl::StatusOr<std::vector<float>> Hidden(uint32_t tokens, Stream& stream) override;

 private:
  absl::Status Multiply(size_t product, const uint16_t* left, uint32_t tokens, uint16_t* out) const;

  const std::array<BlockProduct, kBlockProducts> products_;
  const Cublas cublas_;
  cublasHandle_t handle_ = nullptr;
  DeviceBuffer weights_, hidden_, wide_, middle_, change_, workspace_, seen_;
  BlockMemory memory_;
};

absl::Status CudaBackbone::Allocate(uint32_t max_tokens, Device& device) {
  const auto wide = std::max(products_[kQueryKeyValue].outputs, products_[kGateUp].outputs);
  const uint64_t tokens = uint64_t{max_tokens} * sizeof(uint16_t);
  const std::vector<uint16_t> weights = MakeBlockWeights(shape());
  const struct {
    DeviceBuffer* buffer;
    uint64_t bytes;
  } wanted[] = {{&weights_, weights.size() * sizeof(uint16_t)},
                {&hidden_, tokens * shape().hidden},
                {&wide_, tokens * wide},
                {&middle_, tokens * shape().feed_forward},
                {&change_, tokens * shape().hidden},
                {&workspace_, kWorkspaceBytes}};
  for (const auto& one : wanted) {
    absl::StatusOr<DeviceBuffer> memory = device.Allocate(MemoryKind::kDevice, one.bytes);
    if (!memory.ok()) return memory.status();
    *one.buffer = *std::move(memory);
  }
  absl::StatusOr<DeviceBuffer> seen =
      device.Allocate(MemoryKind::kPinnedHost, tokens * shape().hidden);
  if (!seen.ok()) return seen.status();
  seen_ = *std::move(seen);
  memory_ = {.hidden = hidden_.as<uint16_t>(),
             .wide = wide_.as<uint16_t>(),
             .middle = middle_.as<uint16_t>(),
             .change = change_.as<uint16_t>()};
  absl::Status status = CublasStatus(cublas_.create(&handle_), "beginning with cuBLAS");
  if (!status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Stream>> stream = device.MakeStream("backbone");
  if (!stream.ok()) return stream.status();
  status = (*stream)->Copy(weights_.data(), weights.data(), weights.size() * sizeof(uint16_t));
  if (status.ok()) {
    status = KernelStatus(
        LaunchFirstHidden(memory_.hidden, max_tokens, shape().hidden, (*stream)->native()));
  }
  absl::Status done = (*stream)->Synchronize();
  return status.ok() ? done : status;
}

// Row-major products are cuBLAS's column-major ones of the transposed: out' = right' left'.
absl::Status CudaBackbone::Multiply(size_t index, const uint16_t* left, uint32_t tokens,
                                    uint16_t* out) const {
  const BlockProduct& product = products_[index];
  const auto outputs = static_cast<int>(product.outputs);
  const float one = 1, zero = 0;
  return CublasStatus(
      cublas_.multiply(handle_, CUBLAS_OP_N, CUBLAS_OP_N, outputs, static_cast<int>(tokens),
                       static_cast<int>(product.inputs), &one,
                       weights_.as<uint16_t>() + product.first_weight, CUDA_R_16BF, outputs, left,
                       CUDA_R_16BF, static_cast<int>(product.left_stride), &zero, out, CUDA_R_16BF,
                       outputs, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "multiplying");
}

absl::Status CudaBackbone::EnqueueBlock(uint32_t tokens, Stream& stream) {
  const uint64_t values = uint64_t{tokens} * shape().hidden;
  void* const native = stream.native();
  absl::Status status =
      CublasStatus(cublas_.set_stream(handle_, static_cast<cudaStream_t>(native)), "streams");
  // Setting a stream gives cuBLAS its own workspace again.
  if (status.ok()) {
    status = CublasStatus(cublas_.set_workspace(handle_, workspace_.data(), kWorkspaceBytes),
                          "cuBLAS's workspace");
  }
  if (status.ok()) status = Multiply(kQueryKeyValue, memory_.hidden, tokens, memory_.wide);
  if (status.ok()) status = Multiply(kOutput, memory_.wide, tokens, memory_.change);
  if (status.ok()) status = KernelStatus(LaunchAdd(memory_, values, native));
  if (status.ok()) status = Multiply(kGateUp, memory_.hidden, tokens, memory_.wide);
  if (status.ok())
    status = KernelStatus(LaunchGated(memory_, tokens, shape().feed_forward, native));
  if (status.ok()) status = Multiply(kDown, memory_.middle, tokens, memory_.change);
  return status.ok() ? KernelStatus(LaunchAdd(memory_, values, native)) : status;
}

absl::StatusOr<std::vector<float>> CudaBackbone::Hidden(uint32_t tokens, Stream& stream) {
  const uint64_t values = uint64_t{tokens} * shape().hidden;
  absl::Status status = stream.Copy(seen_.data(), hidden_.data(), values * sizeof(uint16_t));
  if (status.ok()) status = stream.Synchronize();
  if (!status.ok()) return status;
  std::vector<float> hidden(values);
  for (uint64_t i = 0; i < values; ++i)
    hidden[i] = __builtin_bit_cast(float, uint32_t{seen_.as<uint16_t>()[i]} << 16);
  return hidden;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backbone>> MakeCudaBackbone(const BackboneShape& shape,
                                                           uint32_t max_tokens, Device& device) {
  const absl::StatusOr<Cublas> cublas = LoadCublas(ToolkitDirectories());
  if (!cublas.ok()) return cublas.status();
  auto backbone = std::make_unique<CudaBackbone>(shape, *cublas);
  if (absl::Status status = backbone->Allocate(max_tokens, device); !status.ok()) return status;
  return std::unique_ptr<Backbone>(std::move(backbone));
}

absl::Status EnqueueCudaStamp(int64_t* at, Stream& stream) {
  return KernelStatus(LaunchStamp(at, stream.native()));
}

absl::Status FindCublas(const std::vector<std::string>& directories) {
  return LoadCublas(directories).status();
}

}  // namespace engram::simulator
