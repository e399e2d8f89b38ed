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
         VarintFieldBytes(head.timeout_us) + VarintFieldBytes(head.cancel ? 1 : 0) +
         VarintFieldBytes(head.allow_unmasked_images ? 1 : 0);
}

uint8_t* WriteRequestHead(const RequestHead& head, uint8_t* out) {
  out = WriteStringField(request::kTableSetId, head.table_set_id, out);
  out = WriteVarintField(request::kBatchId, head.batch_id, out);
  out = WriteVarintField(request::kTimeout, head.timeout_us, out);
  out = WriteVarintField(request::kCancel, head.cancel ? 1 : 0, out);
  return WriteVarintField(request::kAllowUnmaskedImages, head.allow_unmasked_images ? 1 : 0, out);
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

namespace {

template <typename T>
uint64_t PackedBytes(absl::Span<const T> values) {
  return values.empty() ? 0 : LengthDelimitedBytes(values.size() * sizeof(T));
}

template <typename T>
uint8_t* WritePacked(uint32_t field, absl::Span<const T> values, uint8_t* out) {
  if (values.empty()) return out;
  out = WriteLengthHead(field, values.size() * sizeof(T), out);
  std::memcpy(out, values.data(), values.size() * sizeof(T));
  return out + values.size() * sizeof(T);
}

uint64_t PackedVarintBody(absl::Span<const uint32_t> values) {
  uint64_t bytes = 0;
  for (const uint32_t value : values) bytes += VarintBytes(value);
  return bytes;
}

uint64_t PackedVarintBytes(absl::Span<const uint32_t> values) {
  return values.empty() ? 0 : LengthDelimitedBytes(PackedVarintBody(values));
}

uint8_t* WritePackedVarints(uint32_t field, absl::Span<const uint32_t> values, uint8_t* out) {
  if (values.empty()) return out;
  out = WriteLengthHead(field, PackedVarintBody(values), out);
  for (const uint32_t value : values) out = WriteVarint(value, out);
  return out;
}

uint64_t RunBody(const LookupRequest::Run& run) {
  return VarintFieldBytes(run.first_column) + VarintFieldBytes(run.columns);
}

uint64_t SliceBody(absl::Span<const LookupRequest::Run> runs) {
  uint64_t bytes = 0;
  for (const LookupRequest::Run& run : runs) bytes += LengthDelimitedBytes(RunBody(run));
  return bytes;
}

// visit(the layer's runs), layer after layer.
template <typename Visit>
void ForEachSlice(const RequestTokens& tokens, const Visit& visit) {
  size_t first = 0;
  for (const uint32_t runs : tokens.runs_of_layer) {
    visit(tokens.runs.subspan(first, runs));
    first += runs;
  }
}

uint64_t TokensBody(const RequestTokens& tokens) {
  uint64_t bytes = PackedVarintBytes(tokens.layers) + PackedBytes(tokens.token_ids) +
                   PackedBytes(tokens.dead_mask) + PackedVarintBytes(tokens.sequence_tokens) +
                   PackedBytes(tokens.sequence_windows);
  ForEachSlice(tokens, [&](absl::Span<const LookupRequest::Run> runs) {
    bytes += LengthDelimitedBytes(SliceBody(runs));
  });
  return bytes;
}

}  // namespace

uint64_t RequestTokensBytes(const RequestTokens& tokens) {
  return LengthDelimitedBytes(TokensBody(tokens));
}

uint8_t* WriteRequestTokens(const RequestTokens& tokens, uint8_t* out) {
  out = WriteLengthHead(request::kTokens, TokensBody(tokens), out);
  out = WritePackedVarints(token_batch::kLayers, tokens.layers, out);
  out = WritePacked(token_batch::kTokenIds, tokens.token_ids, out);
  out = WritePacked(token_batch::kDeadMask, tokens.dead_mask, out);
  out = WritePackedVarints(token_batch::kSequenceTokens, tokens.sequence_tokens, out);
  ForEachSlice(tokens, [&](absl::Span<const LookupRequest::Run> runs) {
    out = WriteLengthHead(token_batch::kColumns, SliceBody(runs), out);
    for (const LookupRequest::Run& run : runs) {
      out = WriteLengthHead(column_slice::kRuns, RunBody(run), out);
      out = WriteVarintField(column_run::kFirstColumn, run.first_column, out);
      out = WriteVarintField(column_run::kColumns, run.columns, out);
    }
  });
  return WritePacked(token_batch::kSequenceWindows, tokens.sequence_windows, out);
}

}  // namespace engram::wire
