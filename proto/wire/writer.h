// Writes protobuf's wire format into memory of the size that the functions for it tell.
//
// Pure functions; thread-safe; nothing is allocated. `out`: where to write; what comes back is the
// place behind. As protobuf does, fields that are 0 or empty are left out.
// Source: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"
#include "proto/wire/reader.h"

namespace engram::wire {

inline uint64_t VarintBytes(uint64_t value) {
  uint64_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

inline uint8_t* WriteVarint(uint64_t value, uint8_t* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// All field numbers are below 16, so that a tag is one byte.
inline uint8_t* WriteTag(uint32_t field, WireType type, uint8_t* out) {
  *out++ = static_cast<uint8_t>(field << 3 | static_cast<uint32_t>(type));
  return out;
}

inline uint64_t VarintFieldBytes(uint64_t value) { return value == 0 ? 0 : 1 + VarintBytes(value); }

inline uint8_t* WriteVarintField(uint32_t field, uint64_t value, uint8_t* out) {
  if (value == 0) return out;
  return WriteVarint(value, WriteTag(field, WireType::kVarint, out));
}

inline uint64_t LengthDelimitedBytes(uint64_t size) { return 1 + VarintBytes(size) + size; }

inline uint8_t* WriteLengthHead(uint32_t field, uint64_t size, uint8_t* out) {
  return WriteVarint(size, WriteTag(field, WireType::kLengthDelimited, out));
}

inline uint64_t StringFieldBytes(absl::string_view text) {
  return text.empty() ? 0 : LengthDelimitedBytes(text.size());
}

inline uint8_t* WriteStringField(uint32_t field, absl::string_view text, uint8_t* out) {
  if (text.empty()) return out;
  out = WriteLengthHead(field, text.size(), out);
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

}  // namespace engram::wire
