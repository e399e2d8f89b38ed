// Where the tensors of a checkpoint lie: the index file and the headers of safetensors files.
//
// A checkpoint is a directory with model.safetensors.index.json and the files it names, or with one
// model.safetensors. Only the tensors that are wanted are looked at: files that hold none of them
// need not exist. Everything found is checked against the file: offsets within it, bytes equal to
// what dtype and shape make, no tensor on another's bytes. Immutable after Open; thread-safe. Reads
// headers only; memory follows the wanted tensors and the largest header (at most kMaxHeaderBytes).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// The safetensors format's own bound of a header; the index gets the same.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct TensorPlace {
  std::string name;
  std::string file;   // path
  std::string dtype;  // as the header says it: "BF16", "F8_E4M3", ...
  std::vector<uint64_t> shape;
  uint64_t offset = 0;  // of the first byte, in the file
  uint64_t bytes = 0;
};
// "F8_E4M3 [1000, 256]", for messages.
std::string Describe(const TensorPlace& tensor);

using WantedTensor = std::function<bool(absl::string_view name)>;

class Checkpoint {
 public:
  // NOT_FOUND: no checkpoint, or the file of a wanted tensor is missing. DATA_LOSS: a file that is
  // cut off or no safetensors file, tensors that overlap. Each names file and, where there are any,
  // tensors.
  static absl::StatusOr<Checkpoint> Open(const std::string& directory, const WantedTensor& wanted);

  const std::string& directory() const { return directory_; }
  // The wanted tensors that there are, by name.
  const std::map<std::string, TensorPlace>& tensors() const { return tensors_; }
  // NOT_FOUND names the tensor and the checkpoint.
  absl::StatusOr<const TensorPlace*> Find(const std::string& name) const;

 private:
  explicit Checkpoint(std::string directory) : directory_(std::move(directory)) {}

  std::string directory_;
  std::map<std::string, TensorPlace> tensors_;
};

}  // namespace engram
