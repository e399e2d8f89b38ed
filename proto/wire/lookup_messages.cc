#include "proto/wire/lookup_messages.h"

#include <cstring>

#include "proto/wire/lookup_fields.h"
#include "proto/wire/writer.h"

namespace engram::wire {
namespace {

// Protobuf refuses a proto3 string that is not UTF-8. Source: Unicode 15, table 3-7.
bool IsUtf8(absl::string_view text) {
  const auto* at = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = at + text.size();
  while (at < end) {
    const uint8_t lead = *at++;
    if (lead < 0x80) continue;
    int more = 0;
    uint8_t low = 0x80, high = 0xBF;  // of the second byte
    if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return false;
    }
    for (; more > 0; --more) {
      if (at == end || *at < low || *at > high) return false;
      ++at;
      low = 0x80;
      high = 0xBF;
    }
  }
  return true;
}

bool ReadString(Reader& reader, std::string* out) {
  uint64_t length = 0;
  if (!reader.Length(&length)) return false;
  out->resize(length);
  return reader.Copy(out->data(), length) && IsUtf8(*out);
}

bool ReadUint32(Reader& reader, uint32_t* out) {
  uint64_t value = 0;
  if (!reader.Varint(&value)) return false;
  *out = static_cast<uint32_t>(value);  // as protobuf: the low 32 bits
  return true;
}

bool ReadBool(Reader& reader, bool* out) {
  uint64_t value = 0;
  if (!reader.Varint(&value)) return false;
  *out = value != 0;
  return true;
}

// A repeated fixed-width field: packed, or one value. *matched says whether the wire type was one
// of the two; another one makes the field unknown.
template <typename T>
bool ReadFixed(Reader& reader, WireType type, std::vector<T>* out, bool* matched) {
  constexpr WireType kSingle = sizeof(T) == 4 ? WireType::kFixed32 : WireType::kFixed64;
  *matched = type == kSingle || type == WireType::kLengthDelimited;
  if (!*matched) return true;
  uint64_t bytes = sizeof(T);
  if (type == WireType::kLengthDelimited && !reader.Length(&bytes)) return false;
  if (bytes % sizeof(T) != 0) return false;
  const size_t before = out->size();
  out->resize(before + bytes / sizeof(T));
  return reader.Copy(out->data() + before, bytes);
}

bool ReadVarints(Reader& reader, WireType type, std::vector<uint32_t>* out, bool* matched) {
  *matched = type == WireType::kVarint || type == WireType::kLengthDelimited;
  if (!*matched) return true;
  if (type == WireType::kVarint) return ReadUint32(reader, &out->emplace_back());
  uint64_t bytes = 0;
  if (!reader.Length(&bytes)) return false;
  const uint64_t behind = reader.Enter(bytes);
  while (!reader.AtEnd()) {
    if (!ReadUint32(reader, &out->emplace_back())) return false;
  }
  reader.Leave(behind);
  return true;
}

// The fields of a message that lies within another: `read(field, type, &known)` takes the value of
// one that it knows and says so; others are skipped.
template <typename ReadField>
bool ReadMessage(Reader& reader, const ReadField& read) {
  uint64_t length = 0;
  if (!reader.Length(&length)) return false;
  const uint64_t behind = reader.Enter(length);
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type;
    if (!reader.Tag(&field, &type)) return false;
    bool known = false;
    if (!read(field, type, &known)) return false;
    if (!known && !reader.SkipValue(field, type)) return false;
  }
  reader.Leave(behind);
  return true;
}

bool ReadRun(Reader& reader, LookupRequest::Run* run) {
  return ReadMessage(reader, [&](uint32_t field, WireType type, bool* known) {
    *known = type == WireType::kVarint &&
             (field == column_run::kFirstColumn || field == column_run::kColumns);
    if (!*known) return true;
    return ReadUint32(reader, field == column_run::kColumns ? &run->columns : &run->first_column);
  });
}

// Adds to what the slice has: a message that comes in parts is one, as in protobuf.
bool ReadSlice(Reader& reader, LookupRequest::Slice* slice) {
  return ReadMessage(reader, [&](uint32_t field, WireType type, bool* known) {
    *known = field == column_slice::kRuns && type == WireType::kLengthDelimited;
    if (!*known) return true;
    LookupRequest::Run run;
    if (!ReadRun(reader, &run)) return false;
    if (slice->runs_named < kMaxKeptRuns) slice->kept[slice->runs_named] = run;
    ++slice->runs_named;
    return true;
  });
}

}  // namespace

void LookupRequest::Clear() {
  table_set_id.clear();
  batch_id = timeout_us = layers_named = 0;
  cancel = allow_unmasked_images = has_tokens = false;
  layer_count_ = 0;
  tokens.layers.clear();
  tokens.token_ids.clear();
  tokens.dead_mask.clear();
  tokens.sequence_tokens.clear();
  tokens.sequence_lookback.clear();
  tokens.sequence_windows.clear();
  tokens.columns.clear();
  tokens.columns_named = 0;
}

uint64_t LookupRequest::ListBytes() const {
  uint64_t bytes =
      4 * (tokens.layers.size() + tokens.token_ids.size() + tokens.sequence_tokens.size() +
           tokens.sequence_lookback.size() + tokens.sequence_windows.size()) +
      tokens.dead_mask.size() + table_set_id.size() + tokens.columns.size() * sizeof(Slice);
  for (const Layer& layer : layers()) bytes += 4 * layer.ids32.size() + 8 * layer.ids64.size();
  return bytes;
}

uint64_t LookupRequest::KeptBytes() const {
  uint64_t bytes = 4 * (tokens.layers.capacity() + tokens.token_ids.capacity() +
                        tokens.sequence_tokens.capacity() + tokens.sequence_lookback.capacity() +
                        tokens.sequence_windows.capacity()) +
                   tokens.dead_mask.capacity() + table_set_id.capacity() +
                   tokens.columns.capacity() * sizeof(Slice) + layers_.capacity() * sizeof(Layer);
  for (const Layer& layer : layers_) {
    bytes += 4 * layer.ids32.capacity() + 8 * layer.ids64.capacity();
  }
  return bytes;
}

bool LookupRequest::Parse(absl::Span<const Bytes> chain) {
  Clear();
  Reader reader(chain);
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type;
    if (!reader.Tag(&field, &type) || !ParseField(reader, field, type)) return false;
  }
  return true;
}

bool LookupRequest::ParseField(Reader& reader, uint32_t field, WireType type) {
  if (type == WireType::kLengthDelimited) {
    if (field == request::kTableSetId) return ReadString(reader, &table_set_id);
    if (field == request::kLayers) return ParseLayer(reader);
    if (field == request::kTokens) return ParseTokens(reader);
  } else if (type == WireType::kVarint) {
    if (field == request::kBatchId) return reader.Varint(&batch_id);
    if (field == request::kTimeout) return reader.Varint(&timeout_us);
    if (field == request::kCancel) return ReadBool(reader, &cancel);
    if (field == request::kAllowUnmaskedImages) return ReadBool(reader, &allow_unmasked_images);
  }
  return reader.SkipValue(field, type);
}

bool LookupRequest::ParseLayer(Reader& reader) {
  ++layers_named;
  if (layer_count_ < kMaxKeptLayers) ++layer_count_;
  if (layers_.size() < layer_count_) layers_.emplace_back();
  // Beyond what is kept, the last one is written over: such a request is refused by its count.
  Layer& layer = layers_[layer_count_ - 1];
  layer.layer = 0;
  layer.ids32.clear();
  layer.ids64.clear();
  layer.has_columns = false;
  layer.columns.runs_named = 0;
  return ReadMessage(reader, [&](uint32_t field, WireType type, bool* known) {
    if (field == row_ids::kIds32) return ReadFixed(reader, type, &layer.ids32, known);
    if (field == row_ids::kIds64) return ReadFixed(reader, type, &layer.ids64, known);
    if (field == row_ids::kLayer && type == WireType::kVarint) {
      *known = true;
      return ReadUint32(reader, &layer.layer);
    }
    if (field == row_ids::kColumns && type == WireType::kLengthDelimited) {
      *known = layer.has_columns = true;
      return ReadSlice(reader, &layer.columns);
    }
    return true;
  });
}

bool LookupRequest::ParseTokens(Reader& reader) {
  has_tokens = true;
  return ReadMessage(reader, [&](uint32_t field, WireType type, bool* known) {
    if (field == token_batch::kTokenIds) return ReadFixed(reader, type, &tokens.token_ids, known);
    if (field == token_batch::kSequenceWindows) {
      return ReadFixed(reader, type, &tokens.sequence_windows, known);
    }
    if (field == token_batch::kLayers) return ReadVarints(reader, type, &tokens.layers, known);
    if (field == token_batch::kSequenceTokens) {
      return ReadVarints(reader, type, &tokens.sequence_tokens, known);
    }
    if (field == token_batch::kSequenceLookback) {
      return ReadVarints(reader, type, &tokens.sequence_lookback, known);
    }
    if (type != WireType::kLengthDelimited) return true;
    if (field == token_batch::kDeadMask) {
      *known = true;
      uint64_t bytes = 0;
      if (!reader.Length(&bytes)) return false;
      tokens.dead_mask.resize(bytes);
      return reader.Copy(tokens.dead_mask.data(), bytes);
    }
    if (field == token_batch::kColumns) {
      *known = true;
      Slice slice;
      if (!ReadSlice(reader, &slice)) return false;
      if (tokens.columns_named++ < kMaxKeptLayers) tokens.columns.push_back(slice);
    }
    return true;
  });
}

bool LookupResponse::Parse(absl::Span<const Bytes> chain) {
  table_set_id.clear();
  message.clear();
  layers.clear();
  batch_id = 0;
  code = retry_after_ms = 0;
  last = false;
  Reader reader(chain);
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type;
    if (!reader.Tag(&field, &type) || !ParseField(reader, field, type)) return false;
  }
  return true;
}

bool LookupResponse::ParseField(Reader& reader, uint32_t field, WireType type) {
  if (type == WireType::kVarint) {
    if (field == response::kBatchId) return reader.Varint(&batch_id);
    if (field == response::kCode) return ReadUint32(reader, &code);
    if (field == response::kRetryAfter) return ReadUint32(reader, &retry_after_ms);
    if (field == response::kLast) return ReadBool(reader, &last);
  } else if (type == WireType::kLengthDelimited) {
    if (field == response::kTableSetId) return ReadString(reader, &table_set_id);
    if (field == response::kMessage) return ReadString(reader, &message);
  }
  if (field != response::kLayers || type != WireType::kLengthDelimited) {
    return reader.SkipValue(field, type);
  }
  Layer& layer = layers.emplace_back();
  return ReadMessage(reader, [&](uint32_t inner, WireType inner_type, bool* known) {
    *known = true;
    if (inner == row_data::kRows && inner_type == WireType::kLengthDelimited) {
      uint64_t bytes = 0;
      return reader.Length(&bytes) && reader.Take(bytes, &layer.rows);
    }
    if (inner == row_data::kLayer && inner_type == WireType::kVarint) {
      return ReadUint32(reader, &layer.layer);
    }
    if (inner == row_data::kFirstRow && inner_type == WireType::kVarint) {
      return reader.Varint(&layer.first_row);
    }
    *known = false;
    return true;
  });
}

// What they are written by.

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
