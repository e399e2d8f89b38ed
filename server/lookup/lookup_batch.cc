#include "server/lookup/lookup_batch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Rows begin on a cache line, as wide stores like it; what stands before them is short.
constexpr uint64_t kRowAlignment = 64;

std::byte* Skip(std::byte* slab, uint64_t head_bytes) {
  const auto at = reinterpret_cast<uintptr_t>(slab) + head_bytes;
  return slab + (kRowAlignment - at % kRowAlignment) % kRowAlignment;
}

uint8_t* Raw(std::byte* at) { return reinterpret_cast<uint8_t*>(at); }
std::byte* Bytes(uint8_t* at) { return reinterpret_cast<std::byte*>(at); }

}  // namespace

absl::Status LookupBatch::Parse(absl::Span<const wire::Bytes> message, MonotonicTime now) {
  Release();
  if (!request_.Parse(message)) {
    return absl::InvalidArgumentError("the message is no engram.v1.LookupRequest");
  }
  // What is later than the clock can say is never.
  constexpr uint64_t kLongestUs = uint64_t{1} << 50;
  deadline_ = request_.timeout_us == 0 || request_.timeout_us > kLongestUs
                  ? MonotonicTime::Infinite()
                  : now + absl::Microseconds(static_cast<int64_t>(request_.timeout_us));
  return absl::OkStatus();
}

absl::Status LookupBatch::Prepare(const Store& store, const LookupLimits& limits,
                                  MayHave may_have) {
  if (request_.table_set_id.empty()) {
    return absl::InvalidArgumentError(
        "table_set_id is empty: name the table set by the id that Attach or Describe gave");
  }
  absl::StatusOr<std::shared_ptr<const TableSet>> set = store.Acquire(request_.table_set_id);
  if (!set.ok()) return set.status();
  if (absl::Status status = may_have(**set); !status.ok()) return status;
  if (request_.has_tokens) {
    if (request_.layers_named > 0) {
      return absl::InvalidArgumentError(
          "both layers (row ids) and tokens are given: a batch is by one of them");
    }
    const wire::LookupRequest::Tokens& tokens = request_.tokens;
    return lookup_.PrepareTokens(*std::move(set),
                                 {.layers = tokens.layers,
                                  .token_ids = tokens.token_ids,
                                  .dead = tokens.dead_mask,
                                  .sequence_tokens = tokens.sequence_tokens,
                                  .sequence_lookback = tokens.sequence_lookback},
                                 limits);
  }
  if (request_.layers_named > (*set)->layers().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request names ", request_.layers_named, " layers, the table set has ",
                     (*set)->layers().size(), ": name each at most once"));
  }
  wanted_.clear();
  for (const wire::LookupRequest::Layer& layer : request_.layers()) {
    wanted_.push_back({.layer = layer.layer, .ids32 = layer.ids32, .ids64 = layer.ids64});
  }
  return lookup_.PrepareRows(*std::move(set), wanted_, limits);
}

void LookupBatch::Release() {
  lookup_.Release();
  layer_ = 0;
  row_ = 0;
}

uint64_t LookupBatch::Rows() const {
  uint64_t rows = 0;
  for (size_t i = 0; i < lookup_.layers(); ++i) rows += lookup_.rows(i);
  return rows;
}

uint64_t LookupBatch::RowsBytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < lookup_.layers(); ++i) bytes += lookup_.LayerBytes(i);
  return bytes;
}

uint64_t LookupBatch::RowsLeftBytes() const {
  uint64_t bytes = 0;
  for (size_t i = layer_; i < lookup_.layers(); ++i) bytes += lookup_.LayerBytes(i);
  return layer_ < lookup_.layers() ? bytes - row_ * lookup_.row_bytes(layer_) : 0;
}

// The next `rows` of the layer that is gathered.
void LookupBatch::AddRun(uint64_t rows) {
  runs_.push_back({.layer = layer_,
                   .first = row_,
                   .rows = rows,
                   .head = {.layer = lookup_.layer(layer_),
                            .first_row = row_,
                            .rows_bytes = rows * lookup_.row_bytes(layer_)}});
  row_ += rows;
  if (row_ < lookup_.rows(layer_)) return;
  ++layer_;
  row_ = 0;
}

absl::Span<std::byte> LookupBatch::FillMessage(uint64_t rows_bytes, GatherTeam& team,
                                               absl::Span<std::byte> slab) {
  // All that is left, layer after layer, or a run of rows of one layer.
  runs_.clear();
  if (RowsLeftBytes() <= rows_bytes) {
    while (!done()) AddRun(lookup_.rows(layer_) - row_);
  } else {
    const uint64_t fit = std::max<uint64_t>(1, rows_bytes / lookup_.row_bytes(layer_));
    AddRun(std::min(fit, lookup_.rows(layer_) - row_));
  }
  const wire::ReplyHead head = {
      .table_set_id = lookup_.set().id(), .batch_id = request_.batch_id, .last = done()};
  std::byte* const begin =
      Skip(slab.data(), wire::ReplyHeadBytes(head) + wire::ReplyLayerHeadBytes(runs_[0].head));
  uint8_t* out = wire::WriteReplyHead(head, Raw(begin));
  for (const Run& run : runs_) {
    out = wire::WriteReplyLayerHead(run.head, out);
    lookup_.Gather(run.layer, run.first, run.rows, team, Bytes(out));
    out += run.head.rows_bytes;
  }
  return absl::MakeSpan(begin, Bytes(out));
}

uint64_t LookupBatch::ReplyBytes() const {
  uint64_t bytes = wire::ReplyHeadBytes(
      {.table_set_id = lookup_.set().id(), .batch_id = request_.batch_id, .last = false});
  for (size_t i = 0; i < lookup_.layers(); ++i) {
    const uint64_t rows_bytes = lookup_.LayerBytes(i);
    bytes +=
        rows_bytes + wire::ReplyLayerHeadBytes(
                         {.layer = lookup_.layer(i), .first_row = 0, .rows_bytes = rows_bytes});
  }
  return bytes;
}

absl::Span<std::byte> LookupBatch::FillPart(GatherTeam& team, absl::Span<std::byte> slab) {
  uint8_t* out = Raw(slab.data());
  uint8_t* const end = out + slab.size();
  const wire::ReplyHead head = {
      .table_set_id = lookup_.set().id(), .batch_id = request_.batch_id, .last = false};
  if (layer_ == 0 && row_ == 0) {
    const wire::ReplyLayerHead first = {
        .layer = lookup_.layer(0), .first_row = 0, .rows_bytes = lookup_.LayerBytes(0)};
    out = Raw(Skip(slab.data(), wire::ReplyHeadBytes(head) + wire::ReplyLayerHeadBytes(first)));
  }
  uint8_t* const begin = out;
  if (layer_ == 0 && row_ == 0) out = wire::WriteReplyHead(head, out);
  while (!done()) {
    const wire::ReplyLayerHead layer = {
        .layer = lookup_.layer(layer_), .first_row = 0, .rows_bytes = lookup_.LayerBytes(layer_)};
    const uint64_t head_bytes = row_ == 0 ? wire::ReplyLayerHeadBytes(layer) : 0;
    const uint64_t row_bytes = lookup_.row_bytes(layer_);
    const auto room = static_cast<uint64_t>(end - out);
    if (room < head_bytes + row_bytes) break;
    if (row_ == 0) out = wire::WriteReplyLayerHead(layer, out);
    const uint64_t rows = std::min((room - head_bytes) / row_bytes, lookup_.rows(layer_) - row_);
    lookup_.Gather(layer_, row_, rows, team, Bytes(out));
    out += rows * row_bytes;
    row_ += rows;
    if (row_ < lookup_.rows(layer_)) break;
    ++layer_;
    row_ = 0;
  }
  return absl::MakeSpan(Bytes(begin), Bytes(out));
}

}  // namespace engram
