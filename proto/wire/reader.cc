#include "proto/wire/reader.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace engram::wire {
namespace {

constexpr int kMaxTagBytes = 5;
constexpr int kMaxVarintBytes = 10;
// As protobuf's parser: deeper nesting is refused rather than followed.
constexpr int kMaxDepth = 100;
// protobuf's own bound: lengths are ints, with room for its parser's slop.
constexpr uint64_t kMaxLength = std::numeric_limits<int32_t>::max() - 16;

}  // namespace

Reader::Reader(absl::Span<const Bytes> chain) : chain_(chain) {
  for (const Bytes& bytes : chain) remaining_ += bytes.size();
  Settle();
}

void Reader::Settle() {
  while (chunk_ < chain_.size() && offset_ == chain_[chunk_].size()) {
    ++chunk_;
    offset_ = 0;
  }
}

bool Reader::Byte(uint8_t* byte) {
  if (remaining_ == 0) return false;
  *byte = chain_[chunk_][offset_++];
  --remaining_;
  if (offset_ == chain_[chunk_].size()) Settle();
  return true;
}

bool Reader::Varint(uint64_t* value) {
  uint64_t result = 0;
  for (int i = 0; i < kMaxVarintBytes; ++i) {
    uint8_t byte = 0;
    if (!Byte(&byte)) return false;
    result |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      *value = result;
      return true;
    }
  }
  return false;
}

bool Reader::Tag(uint32_t* field, WireType* type) {
  uint32_t tag = 0;
  for (int i = 0; i < kMaxTagBytes; ++i) {
    uint8_t byte = 0;
    if (!Byte(&byte)) return false;
    tag |= static_cast<uint32_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      *field = tag >> 3;
      *type = static_cast<WireType>(tag & 7);
      return *field != 0 && (tag & 7) <= static_cast<uint32_t>(WireType::kFixed32);
    }
  }
  return false;
}

bool Reader::Length(uint64_t* length) {
  uint64_t value = 0;
  for (int i = 0; i < kMaxTagBytes; ++i) {
    uint8_t byte = 0;
    if (!Byte(&byte)) return false;
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte >= 0x80) continue;
    *length = value;
    return value <= kMaxLength && value <= remaining_;
  }
  return false;
}

bool Reader::Take(uint64_t bytes, Extent* extent) {
  if (bytes > remaining_) return false;
  *extent = {.chunk = chunk_, .offset = offset_, .size = bytes};
  remaining_ -= bytes;
  while (bytes > 0) {
    const uint64_t step = std::min<uint64_t>(bytes, chain_[chunk_].size() - offset_);
    offset_ += step;
    bytes -= step;
    if (offset_ == chain_[chunk_].size()) Settle();
  }
  return true;
}

bool Reader::Copy(void* out, uint64_t bytes) {
  Extent extent;
  if (!Take(bytes, &extent)) return false;
  CopyExtent(chain_, extent, out);
  return true;
}

bool Reader::SkipGroup(uint32_t field) {
  if (++depth_ > kMaxDepth) return false;
  while (true) {
    uint32_t inner = 0;
    WireType type;
    if (!Tag(&inner, &type)) return false;
    if (type == WireType::kEndGroup) {
      --depth_;
      return inner == field;
    }
    if (!SkipValue(inner, type)) return false;
  }
}

bool Reader::SkipValue(uint32_t field, WireType type) {
  Extent skipped;
  uint64_t value = 0;
  switch (type) {
    case WireType::kVarint:
      return Varint(&value);
    case WireType::kFixed64:
      return Take(sizeof(uint64_t), &skipped);
    case WireType::kFixed32:
      return Take(sizeof(uint32_t), &skipped);
    case WireType::kLengthDelimited:
      return Length(&value) && Take(value, &skipped);
    case WireType::kStartGroup:
      return SkipGroup(field);
    case WireType::kEndGroup:
      break;  // of a group that was not begun
  }
  return false;
}

void CopyExtent(absl::Span<const Bytes> chain, const Extent& extent, void* out) {
  auto* to = static_cast<uint8_t*>(out);
  ForEachRun(chain, extent, [&to](Bytes run) {
    std::memcpy(to, run.data(), run.size());
    to += run.size();
  });
}

}  // namespace engram::wire
