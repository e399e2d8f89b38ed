// Reads protobuf's wire format from a chain of buffers, without a protobuf type and without a copy.
//
// As strict and as lenient as protobuf's own C++ parser (the differential test holds it to that):
// tags of up to five bytes, varints of up to ten, unknown fields and groups skipped. After a method
// returned false the input is malformed and the reader is of no further use.
// Thread-compatible; allocates nothing; the buffers are the caller's and outlive it.
// Source: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace engram::wire {

using Bytes = absl::Span<const uint8_t>;

enum class WireType : uint32_t {
  kVarint = 0,
  kFixed64 = 1,
  kLengthDelimited = 2,
  kStartGroup = 3,
  kEndGroup = 4,
  kFixed32 = 5,
};

// A run of bytes within the chain: begins `offset` bytes into its buffer `chunk`, may span several.
struct Extent {
  size_t chunk = 0;
  size_t offset = 0;
  uint64_t size = 0;
};

class Reader {
 public:
  explicit Reader(absl::Span<const Bytes> chain);

  uint64_t remaining() const { return remaining_; }
  bool AtEnd() const { return remaining_ == 0; }

  bool Tag(uint32_t* field, WireType* type);
  bool Varint(uint64_t* value);
  bool Fixed32(uint32_t* value) { return Copy(value, sizeof(*value)); }
  bool Fixed64(uint64_t* value) { return Copy(value, sizeof(*value)); }
  // The length of a length-delimited field; false also when that many bytes are not there.
  bool Length(uint64_t* length);
  bool Copy(void* out, uint64_t bytes);
  // Skips `bytes`, and says where they lie.
  bool Take(uint64_t bytes, Extent* extent);
  // Skips the value of a field whose tag was just read.
  bool SkipValue(uint32_t field, WireType type);

  // Into a message within the message: from here on the reader ends after `bytes`, which are there.
  // Returns what lies behind, for Leave, which is called at the end of them.
  uint64_t Enter(uint64_t bytes) {
    const uint64_t behind = remaining_ - bytes;
    remaining_ = bytes;
    ++depth_;
    return behind;
  }
  void Leave(uint64_t behind) {
    remaining_ = behind;
    --depth_;
  }

 private:
  bool SkipGroup(uint32_t field);
  bool Byte(uint8_t* byte);
  // Goes to the next buffer that is not empty when this one is used up.
  void Settle();

  const absl::Span<const Bytes> chain_;
  size_t chunk_ = 0;
  size_t offset_ = 0;
  uint64_t remaining_ = 0;
  int depth_ = 0;
};

// Copies what `extent` names of `chain`. For rows use ForEachRun.
void CopyExtent(absl::Span<const Bytes> chain, const Extent& extent, void* out);

// Calls run(Bytes) for each contiguous part of the extent, in order.
template <typename Run>
void ForEachRun(absl::Span<const Bytes> chain, Extent extent, Run&& run) {
  while (extent.size > 0) {
    Bytes part = chain[extent.chunk].subspan(extent.offset);
    if (part.size() > extent.size) part = part.first(extent.size);
    if (!part.empty()) run(part);
    extent.size -= part.size();
    ++extent.chunk;
    extent.offset = 0;
  }
}

}  // namespace engram::wire
