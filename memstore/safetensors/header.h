// The header of one safetensors file: where its tensors lie.
//
// Everything found is checked against the file: offsets within it, bytes equal to what dtype and
// shape make, no tensor on another's bytes, no name and no key twice. Stateless, thread-safe. Reads
// the header alone; memory: its text, 16 bytes a tensor, and the wanted tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/os/file_stamp.h"

namespace engram {

// The safetensors format's own bound of a header.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
// Of one file: 128 pieces of a table are usual, 512 the most known. Bounds the memory that a
// hostile header takes.
inline constexpr size_t kMaxWantedTensors = 65'536;

// A warning names a few.
inline constexpr size_t kMaxStray = 16;

struct TensorPlace {
  std::string name;
  std::string file;   // path
  std::string dtype;  // as the header says it: "BF16", "F8_E4M3", ...
  std::vector<uint64_t> shape;
  uint64_t offset = 0;  // of the first byte, in the file
  uint64_t bytes = 0;
  FileStamp as_read = {};  // the file when its header was read: the place is of no other
};
// "F8_E4M3 [1000, 256]", for messages.
std::string Describe(const TensorPlace& tensor);

// Called by several threads at a time.
using WantedTensor = std::function<bool(absl::string_view name)>;

// Bytes [begin, end) of a file.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, TensorPlace> tensors;  // the wanted ones
  std::vector<ByteRange> stray;  // behind the header, of no tensor; ascending, kMaxStray at most
  std::string sha256;            // of its text
};

// How long the header of `path` is, by its first bytes. DATA_LOSS: no safetensors file, or cut off.
// RESOURCE_EXHAUSTED: longer than kMaxHeaderBytes.
absl::StatusOr<uint64_t> SafetensorsHeaderBytes(const std::string& path);

// The same errors; DATA_LOSS for a header that contradicts itself or the file, INVALID_ARGUMENT
// for a wanted tensor of an unknown dtype. Each names file and, where there is one, tensor.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const std::string& path,
                                                        const WantedTensor& wanted);

}  // namespace engram
