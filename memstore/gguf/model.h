// A model's GGUF files, read together: one file, or the parts NAME-00001-of-00003.gguf.
//
// Immutable after Open; thread-safe. Reads headers alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/gguf/header.h"

namespace engram {

// More parts than any model has: bounds what a name asks for.
inline constexpr uint32_t kMaxGgufParts = 10'000;

// The paths of all parts of the model that `path` is a part of, in their order; `path` alone where
// its name does not say that there are others.
std::vector<std::string> GgufPartsOf(const std::string& path);

struct GgufEntry {
  std::string file;
  GgufValue value;
};

// For whoever wants to say which file it was: the header's bytes are [0, header_bytes).
struct GgufFile {
  std::string path;
  uint64_t header_bytes = 0;
  FileStamp as_read;  // when its header was read
};

class GgufModel {
 public:
  // Errors of ReadGgufHeader. NOT_FOUND names a part that is missing. FAILED_PRECONDITION: the
  // parts are of several models, say other numbers than their names, or one tensor is in two; a
  // wanted key that has two values.
  static absl::StatusOr<GgufModel> Open(const std::string& path, const WantedGgufKey& wanted);

  const std::vector<GgufFile>& files() const { return files_; }
  // The wanted keys that there are.
  const std::map<std::string, GgufEntry>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  // Bytes of no tensor, by path.
  const std::map<std::string, std::vector<GgufByteRange>>& stray() const { return stray_; }

 private:
  GgufModel() = default;
  absl::Status AddPart(const std::string& path, uint64_t part, uint64_t parts,
                       const WantedGgufKey& wanted);

  std::vector<GgufFile> files_;
  std::map<std::string, GgufEntry> metadata_;
  std::map<std::string, GgufTensor> tensors_;
  std::map<std::string, std::vector<GgufByteRange>> stray_;
};

}  // namespace engram
