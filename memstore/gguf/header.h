// The header of one GGUF file: its metadata, and where its tensors lie.
//
// Everything found is checked against the file: texts and lists within it, tensors within it, at
// the alignment that it states and none on another's bytes, no key and no name twice. Stateless,
// thread-safe. Reads the header alone, through one buffer; memory: that, some bytes a key and a
// tensor, and the values of the keys that are wanted.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/gguf/ggml_type.h"
#include "memstore/os/file_stamp.h"

namespace engram {

// Models have some thousands of tensors and some hundreds of keys. Bounds what a hostile header
// makes us keep.
inline constexpr uint64_t kMaxGgufTensors = 1u << 17;
inline constexpr uint64_t kMaxGgufKeys = 1u << 16;
// The format's own bound of a key; tensors' names are shorter.
inline constexpr uint64_t kMaxGgufNameBytes = 65'535;
// Of a wanted key: texts are names, lists go up to a token map's (2^25 ids, as elsewhere).
inline constexpr uint64_t kMaxGgufTextBytes = 1u << 20;
inline constexpr uint64_t kMaxGgufNumbers = 1u << 25;
// Of all names and wanted values together: that list, and as much again.
inline constexpr uint64_t kMaxGgufKeptBytes = 16 * kMaxGgufNumbers;
// More is no alignment; pages of 16 KiB are known.
inline constexpr uint64_t kMaxGgufAlignment = 1u << 20;
inline constexpr uint32_t kMaxGgufDimensions = 4;

// The value of a wanted key: a scalar is a list of one.
struct GgufValue {
  enum class Kind { kWhole, kBool, kReal, kText, kOther };  // kOther: a list of texts, not kept

  Kind kind = Kind::kOther;
  bool is_list = false;
  std::vector<int64_t> numbers;  // kWhole, kBool
  bool too_large = false;        // a number is beyond int64: `numbers` is of no use
  std::vector<double> reals;     // kReal
  std::string text;              // kText
};

struct GgufTensor {
  std::string name;
  std::string file;  // path
  uint32_t type_number = 0;
  const GgmlType* type = nullptr;  // nullptr: not known, and so is `bytes`
  std::vector<uint64_t> shape;     // the values of a row first
  uint64_t offset = 0;             // of the first byte, in the file
  uint64_t bytes = 0;

  uint64_t RowValues() const { return shape.empty() ? 1 : shape[0]; }
  uint64_t Rows() const;  // all further dimensions
};
// "Q8_0 [1000, 256]", rows first, for messages.
std::string Describe(const GgufTensor& tensor);

struct GgufByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct GgufHeader {
  FileStamp as_read;  // the file when its header was read: places are of no other
  uint32_t version = 0;
  uint64_t header_bytes = 0;                  // up to the first tensor's alignment
  std::map<std::string, GgufValue> metadata;  // the wanted keys
  std::vector<GgufTensor> tensors;            // in the file's order
  std::vector<GgufByteRange> stray;  // of no tensor and too long for padding; a few at most
};

using WantedGgufKey = std::function<bool(absl::string_view key)>;

// DATA_LOSS: no GGUF file, cut off, or one that contradicts itself. FAILED_PRECONDITION: GGUF that
// is not read here, as of another byte order or version. RESOURCE_EXHAUSTED: beyond a bound above.
// Each names the file and what is wrong in it.
absl::StatusOr<GgufHeader> ReadGgufHeader(const std::string& path, const WantedGgufKey& wanted);

}  // namespace engram
