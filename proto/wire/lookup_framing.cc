// What LookupRequest and LookupResponse are written by.

#include <cstring>

#include "proto/wire/lookup_fields.h"
#include "proto/wire/lookup_messages.h"

namespace engram::wire {
namespace {

uint64_t VarintBytes(uint64_t value) {
  uint64_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

uint8_t* WriteVarint(uint64_t value, uint8_t* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// All field numbers are below 16, so that a tag is one byte.
uint8_t* WriteTag(uint32_t field, WireType type, uint8_t* out) {
  *out++ = static_cast<uint8_t>(field << 3 | static_cast<uint32_t>(type));
  return out;
}

uint64_t VarintFieldBytes(uint64_t value) { return value == 0 ? 0 : 1 + VarintBytes(value); }

uint8_t* WriteVarintField(uint32_t field, uint64_t value, uint8_t* out) {
  if (value == 0) return out;
  return WriteVarint(value, WriteTag(field, WireType::kVarint, out));
}

uint64_t LengthDelimitedBytes(uint64_t size) { return 1 + VarintBytes(size) + size; }

uint8_t* WriteLengthHead(uint32_t field, uint64_t size, uint8_t* out) {
  return WriteVarint(size, WriteTag(field, WireType::kLengthDelimited, out));
}

uint64_t StringFieldBytes(absl::string_view text) {
  return text.empty() ? 0 : LengthDelimitedBytes(text.size());
}

uint8_t* WriteStringField(uint32_t field, absl::string_view text, uint8_t* out) {
  if (text.empty()) return out;
  out = WriteLengthHead(field, text.size(), out);
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

}  // namespace

uint64_t ReplyHeadBytes(const ReplyHead& head) {
  return StringFieldBytes(head.table_set_id) + VarintFieldBytes(head.batch_id) +
         VarintFieldBytes(head.last ? 1 : 0);
}

uint8_t* WriteReplyHead(const ReplyHead& head, uint8_t* out) {
  out = WriteStringField(response::kTableSetId, head.table_set_id, out);
  out = WriteVarintField(response::kBatchId, head.batch_id, out);
  return WriteVarintField(response::kLast, head.last ? 1 : 0, out);
}

namespace {

uint64_t ReplyLayerBytes(const ReplyLayerHead& head) {
  return VarintFieldBytes(head.layer) + VarintFieldBytes(head.first_row) +
         LengthDelimitedBytes(head.rows_bytes);
}

uint64_t RequestLayerBody(const RequestLayer& layer) {
  return VarintFieldBytes(layer.layer) +
         LengthDelimitedBytes(layer.ids.size() * (layer.wide ? 8 : 4));
}

}  // namespace

uint64_t ReplyLayerHeadBytes(const ReplyLayerHead& head) {
  return LengthDelimitedBytes(ReplyLayerBytes(head)) - head.rows_bytes;
}

uint8_t* WriteReplyLayerHead(const ReplyLayerHead& head, uint8_t* out) {
  out = WriteLengthHead(response::kLayers, ReplyLayerBytes(head), out);
  out = WriteVarintField(row_data::kLayer, head.layer, out);
  out = WriteVarintField(row_data::kFirstRow, head.first_row, out);
  return WriteLengthHead(row_data::kRows, head.rows_bytes, out);
}

std::string EncodeReplyError(const ReplyError& error) {
  std::string bytes(VarintFieldBytes(error.batch_id) + VarintFieldBytes(error.code) +
                        StringFieldBytes(error.message) + VarintFieldBytes(error.retry_after_ms),
                    '\0');
  auto* out = reinterpret_cast<uint8_t*>(bytes.data());
  out = WriteVarintField(response::kBatchId, error.batch_id, out);
  out = WriteVarintField(response::kCode, error.code, out);
  out = WriteStringField(response::kMessage, error.message, out);
  WriteVarintField(response::kRetryAfter, error.retry_after_ms, out);
  return bytes;
}

uint64_t RequestHeadBytes(const RequestHead& head) {
  return StringFieldBytes(head.table_set_id) + VarintFieldBytes(head.batch_id) +
         VarintFieldBytes(head.timeout_us) + VarintFieldBytes(head.cancel ? 1 : 0);
}

uint8_t* WriteRequestHead(const RequestHead& head, uint8_t* out) {
  out = WriteStringField(request::kTableSetId, head.table_set_id, out);
  out = WriteVarintField(request::kBatchId, head.batch_id, out);
  out = WriteVarintField(request::kTimeout, head.timeout_us, out);
  return WriteVarintField(request::kCancel, head.cancel ? 1 : 0, out);
}

uint64_t RequestLayerBytes(const RequestLayer& layer) {
  return LengthDelimitedBytes(RequestLayerBody(layer));
}

uint8_t* WriteRequestLayer(const RequestLayer& layer, uint8_t* out) {
  out = WriteLengthHead(request::kLayers, RequestLayerBody(layer), out);
  out = WriteVarintField(row_ids::kLayer, layer.layer, out);
  if (layer.wide) {
    out = WriteLengthHead(row_ids::kIds64, layer.ids.size() * 8, out);
    std::memcpy(out, layer.ids.data(), layer.ids.size() * 8);
    return out + layer.ids.size() * 8;
  }
  out = WriteLengthHead(row_ids::kIds32, layer.ids.size() * 4, out);
  for (const uint64_t id : layer.ids) {
    const auto narrow = static_cast<uint32_t>(id);
    std::memcpy(out, &narrow, sizeof(narrow));
    out += sizeof(narrow);
  }
  return out;
}

}  // namespace engram::wire
