#include "server/lookup/lookup_batch.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

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

absl::StatusOr<ColumnSlice> SliceOf(const wire::LookupRequest::Slice& slice, uint32_t columns) {
  static_assert(wire::kMaxKeptRuns == ColumnSlice::kMaxRuns);
  std::array<ColumnRun, ColumnSlice::kMaxRuns> runs;
  size_t count = 0;
  for (const wire::LookupRequest::Run& run : slice.runs()) {
    runs[count++] = {run.first_column, run.columns};
  }
  if (slice.runs_named > count) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slice of ", slice.runs_named, " runs of columns: ", count,
                     " at most, so join runs that touch, or ask twice"));
  }
  return ColumnSlice::Create({runs.data(), count}, columns);
}

absl::Status Within(absl::string_view what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(what, ": columns: ", status.message()));
}

// A slice of a batch by tokens: by its place, and by the layer that it is for. Slices beyond the
// layers, which are refused later, have none.
std::string TokenSliceText(size_t index, absl::Span<const uint32_t> named,
                           absl::Span<const LayerAddressing> layers) {
  std::string text = absl::StrCat("tokens, slice ", index);
  if (index < named.size()) {
    absl::StrAppend(&text, " (layer ", named[index], ")");
  } else if (named.empty() && index < layers.size()) {
    absl::StrAppend(&text, " (layer ", layers[index].layer, ")");
  }
  return text;
}

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

absl::Status LookupBatch::Prepare(const TableSetRegistry& registry, const LookupLimits& limits,
                                  MayHaveSet may_have) {
  if (request_.table_set_id.empty()) {
    return absl::InvalidArgumentError(
        "table_set_id is empty: name the table set by the id that Attach or Describe gave");
  }
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<const TableSet> set,
                          registry.Acquire(request_.table_set_id, may_have));
  if (request_.has_tokens) {
    if (request_.layers_named > 0) {
      return absl::InvalidArgumentError(
          "both layers (row ids) and tokens are given: a batch is by one of them");
    }
    return PrepareTokens(std::move(set), limits);
  }
  return PrepareRows(std::move(set), limits);
}

absl::Status LookupBatch::PrepareTokens(std::shared_ptr<const TableSet> set,
                                        const LookupLimits& limits) {
  const wire::LookupRequest::Tokens& tokens = request_.tokens;
  if (tokens.columns_named > tokens.columns.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tokens.columns has ", tokens.columns_named,
                                                   " slices: give one for each layer, or none"));
  }
  const AddressScheme& scheme = set->addresser().scheme();
  slices_.clear();
  for (size_t i = 0; i < tokens.columns.size(); ++i) {
    const absl::StatusOr<ColumnSlice> slice = SliceOf(tokens.columns[i], scheme.Columns());
    if (!slice.ok()) {
      return Within(TokenSliceText(i, tokens.layers, scheme.layers), slice.status());
    }
    slices_.push_back(*slice);
  }
  if (!tokens.sequence_windows.empty()) {
    if (!tokens.sequence_lookback.empty()) {
      return absl::InvalidArgumentError(
          "both sequence_lookback and sequence_windows are given: a sequence has one of the two");
    }
    return lookup_.PrepareSequences(std::move(set),
                                    {.layers = tokens.layers,
                                     .sequence_tokens = tokens.sequence_tokens,
                                     .lookback = scheme.Lookback(),
                                     .windows = tokens.sequence_windows,
                                     .token_ids = tokens.token_ids,
                                     .dead = tokens.dead_mask,
                                     .slices = slices_,
                                     .allow_unmasked_images = request_.allow_unmasked_images},
                                    limits);
  }
  return lookup_.PrepareTokens(std::move(set),
                               {.layers = tokens.layers,
                                .token_ids = tokens.token_ids,
                                .dead = tokens.dead_mask,
                                .sequence_tokens = tokens.sequence_tokens,
                                .sequence_lookback = tokens.sequence_lookback,
                                .slices = slices_,
                                .allow_unmasked_images = request_.allow_unmasked_images},
                               limits);
}

absl::Status LookupBatch::PrepareRows(std::shared_ptr<const TableSet> set,
                                      const LookupLimits& limits) {
  if (request_.layers_named > set->layers().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request names ", request_.layers_named, " layers, the table set has ",
                     set->layers().size(), ": name each at most once"));
  }
  const uint32_t columns = set->addresser().scheme().Columns();
  wanted_.clear();
  slices_.clear();
  slices_.reserve(request_.layers().size());  // they are pointed at
  for (const wire::LookupRequest::Layer& layer : request_.layers()) {
    wanted_.push_back({.layer = layer.layer, .ids32 = layer.ids32, .ids64 = layer.ids64});
    if (!layer.has_columns) continue;
    const absl::StatusOr<ColumnSlice> slice = SliceOf(layer.columns, columns);
    if (!slice.ok()) return Within(absl::StrCat("layer ", layer.layer), slice.status());
    slices_.push_back(*slice);
    wanted_.back().slice = &slices_.back();
  }
  return lookup_.PrepareRows(std::move(set), wanted_, limits);
}

void LookupBatch::Release() {
  EndRows();
  lookup_.Release();
  at_ = {};
}

std::string LookupBatch::EmptyReply(bool of_stream) const {
  ENGRAM_CHECK(lookup_.layers() == 0, "an empty answer to a batch that has rows");
  const wire::ReplyHead head = {
      .table_set_id = lookup_.set().id(), .batch_id = request_.batch_id, .last = of_stream};
  std::string bytes(wire::ReplyHeadBytes(head), '\0');
  wire::WriteReplyHead(head, reinterpret_cast<uint8_t*>(bytes.data()));
  return bytes;
}

uint64_t LookupBatch::RowsLeftBytes() const {
  uint64_t bytes = 0;
  for (size_t i = at_.layer; i < lookup_.layers(); ++i) bytes += lookup_.LayerBytes(i);
  return done() ? 0 : bytes - at_.row * lookup_.row_bytes(at_.layer);
}

// The next `rows` of the layer where the runs are.
void LookupBatch::AddRun(uint64_t rows) {
  runs_.push_back({.layer = next_.layer,
                   .first = next_.row,
                   .rows = rows,
                   .head = {.layer = lookup_.layer(next_.layer),
                            .first_row = next_.row,
                            .rows_bytes = rows * lookup_.row_bytes(next_.layer)}});
  next_.row += rows;
  if (next_.row < lookup_.rows(next_.layer)) return;
  ++next_.layer;
  next_.row = 0;
}

absl::StatusOr<RowSource::When> LookupBatch::BeginMessage(uint64_t rows_bytes,
                                                          const std::shared_ptr<Executor>& executor,
                                                          RowSource::Done done) {
  EndRows();
  next_ = at_;
  // All that is left, layer after layer, or a run of rows of one layer.
  if (RowsLeftBytes() <= rows_bytes) {
    while (next_.layer < lookup_.layers()) AddRun(lookup_.rows(next_.layer) - next_.row);
  } else {
    const uint64_t fit = std::max<uint64_t>(1, rows_bytes / lookup_.row_bytes(next_.layer));
    AddRun(std::min(fit, lookup_.rows(next_.layer) - next_.row));
  }
  return BeginRows(executor, std::move(done));
}

absl::StatusOr<RowSource::When> LookupBatch::BeginReply(const std::shared_ptr<Executor>& executor,
                                                        RowSource::Done done) {
  EndRows();
  next_ = {};
  while (next_.layer < lookup_.layers()) AddRun(lookup_.rows(next_.layer));
  return BeginRows(executor, std::move(done));
}

absl::StatusOr<RowSource::When> LookupBatch::BeginRows(const std::shared_ptr<Executor>& executor,
                                                       RowSource::Done done) {
  ENGRAM_CHECK(!runs_.empty(), "rows were asked for of a batch that has none left");
  rows_present_ = lookup_.source().resident();
  if (rows_present_) return RowSource::When::kNow;
  for (const Run& run : runs_) {
    row_request_.wanted.push_back(lookup_.Wanted(run.layer, run.first, run.rows));
  }
  absl::StatusOr<RowSource::When> when = lookup_.source().Begin(
      row_request_, executor, [this, done = std::move(done)](absl::Status status) mutable {
        rows_present_ = status.ok();
        done(std::move(status));
      });
  rows_present_ = when.ok() && *when == RowSource::When::kNow;
  return when;
}

void LookupBatch::EndRows() {
  runs_.clear();
  row_request_.Clear();
  rows_present_ = false;
}

void LookupBatch::GatherRun(const Run& run, uint64_t first, uint64_t count, GatherTeam& team,
                            uint8_t* out) {
  if (lookup_.source().resident()) {
    lookup_.Gather(run.layer, run.first + first, count, team, Bytes(out));
    return;
  }
  const PresentRun& rows = row_request_.present[static_cast<size_t>(&run - runs_.data())];
  const Landing landing{.data = Bytes(out)};
  if (!rows.ids32.empty()) {
    team.Gather<uint32_t>(rows.table, rows.ids32.subspan(first, count), landing);
  } else {
    team.Gather<uint64_t>(rows.table, rows.ids64.subspan(first, count), landing);
  }
}

absl::Span<std::byte> LookupBatch::FillMessage(GatherTeam& team, absl::Span<std::byte> slab) {
  ENGRAM_CHECK(rows_present_, "a message is filled whose rows are not there");
  const wire::ReplyHead head = {.table_set_id = lookup_.set().id(),
                                .batch_id = request_.batch_id,
                                .last = next_.layer == lookup_.layers()};
  std::byte* const begin =
      Skip(slab.data(), wire::ReplyHeadBytes(head) + wire::ReplyLayerHeadBytes(runs_[0].head));
  uint8_t* out = wire::WriteReplyHead(head, Raw(begin));
  for (const Run& run : runs_) {
    out = wire::WriteReplyLayerHead(run.head, out);
    GatherRun(run, 0, run.rows, team, out);
    out += run.head.rows_bytes;
  }
  ENGRAM_CHECK(Bytes(out) <= slab.data() + slab.size(), "a message is larger than its slab");
  at_ = next_;
  EndRows();
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
  ENGRAM_CHECK(rows_present_, "a reply is filled whose rows are not there");
  uint8_t* out = Raw(slab.data());
  uint8_t* const end = out + slab.size();
  const wire::ReplyHead head = {
      .table_set_id = lookup_.set().id(), .batch_id = request_.batch_id, .last = false};
  const bool first_part = at_.layer == 0 && at_.row == 0;
  if (first_part) {
    out = Raw(
        Skip(slab.data(), wire::ReplyHeadBytes(head) + wire::ReplyLayerHeadBytes(runs_[0].head)));
  }
  uint8_t* const begin = out;
  if (first_part) out = wire::WriteReplyHead(head, out);
  while (!done()) {
    const Run& run = runs_[at_.layer];  // a layer each
    const uint64_t head_bytes = at_.row == 0 ? wire::ReplyLayerHeadBytes(run.head) : 0;
    const uint64_t row_bytes = lookup_.row_bytes(at_.layer);
    const auto room = static_cast<uint64_t>(end - out);
    if (room < head_bytes + row_bytes) break;
    if (at_.row == 0) out = wire::WriteReplyLayerHead(run.head, out);
    const uint64_t rows = std::min((room - head_bytes) / row_bytes, run.rows - at_.row);
    GatherRun(run, at_.row, rows, team, out);
    out += rows * row_bytes;
    at_.row += rows;
    if (at_.row < run.rows) break;
    ++at_.layer;
    at_.row = 0;
  }
  return absl::MakeSpan(Bytes(begin), Bytes(out));
}

}  // namespace engram
