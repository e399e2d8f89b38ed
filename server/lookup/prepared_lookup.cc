#include "server/lookup/prepared_lookup.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/column_check.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/partition/held_check.h"

namespace engram {
namespace {

// What a reply holds beside its rows: at most this much in all (set id, batch id, their tags) ...
constexpr uint64_t kReplyFramingBytes = 128;
// ... and this much a layer (layer number, tags, two lengths).
constexpr uint64_t kLayerFramingBytes = 32;

absl::Status EmptyBatch() {
  return absl::InvalidArgumentError("the batch is empty: ask for at least one row");
}

absl::Status InvalidLayer(uint32_t layer, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": ", what));
}

const Addresser& AddresserFor(const TableSet& set, bool allow_unmasked_images) {
  return allow_unmasked_images ? set.image_taking_addresser() : set.addresser();
}

// The sequences of a token batch after their two lists were checked; without lists there is one.
struct Sequences {
  absl::Span<const uint32_t> tokens;
  absl::Span<const uint32_t> lookback;
  uint64_t total_tokens = 0;  // without lookback
};

absl::StatusOr<Sequences> CheckSequences(const WantedTokens& wanted, uint32_t max_lookback) {
  if (wanted.token_ids.empty()) {
    return absl::InvalidArgumentError("the batch is empty: tokens.token_ids holds no token id");
  }
  if (wanted.sequence_tokens.size() != wanted.sequence_lookback.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens.sequence_tokens names ", wanted.sequence_tokens.size(),
                     " sequences and tokens.sequence_lookback ", wanted.sequence_lookback.size(),
                     ": give both for each sequence, or neither for one sequence from its start"));
  }
  if (!wanted.dead.empty() && wanted.dead.size() != wanted.token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tokens.dead_mask has ", wanted.dead.size(),
                                                   " bytes for ", wanted.token_ids.size(),
                                                   " token ids: give one for each, or none"));
  }
  Sequences sequences;
  if (wanted.sequence_tokens.empty()) {
    sequences.total_tokens = wanted.token_ids.size();
    return sequences;
  }
  uint64_t ids = 0;
  for (size_t i = 0; i < wanted.sequence_tokens.size(); ++i) {
    const uint32_t tokens = wanted.sequence_tokens[i];
    const uint32_t lookback = wanted.sequence_lookback[i];
    if (tokens == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", i, " asks for no token: leave it out"));
    }
    if (lookback > max_lookback) {
      return absl::InvalidArgumentError(absl::StrCat("sequence ", i, " has ", lookback,
                                                     " lookback tokens: the table set looks back ",
                                                     max_lookback, " at most"));
    }
    ids += uint64_t{tokens} + lookback;
    sequences.total_tokens += tokens;
  }
  if (ids != wanted.token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the sequences name ", ids, " tokens, lookback included, but tokens.token_ids holds ",
        wanted.token_ids.size()));
  }
  sequences.tokens = wanted.sequence_tokens;
  sequences.lookback = wanted.sequence_lookback;
  return sequences;
}

// To where the ids of the tokens after these go.
void Advance(uint64_t tokens, absl::Span<LayerRowIdsOutput> outputs) {
  for (LayerRowIdsOutput& output : outputs) {
    if (output.rows != nullptr) output.rows += tokens * output.token_stride;
  }
}

// Addresses every sequence; `outputs` names the layers and where the first token's ids go.
absl::Status AddressSequences(const Addresser& addresser, const WantedTokens& wanted,
                              const Sequences& sequences, absl::Span<LayerRowIdsOutput> outputs) {
  const bool listed = !sequences.tokens.empty();
  size_t at = 0;
  for (size_t i = 0; i < (listed ? sequences.tokens.size() : 1); ++i) {
    const auto ids = [&](size_t count) { return wanted.token_ids.subspan(at, count); };
    const auto dead = [&](size_t count) {
      return wanted.dead.empty() ? wanted.dead : wanted.dead.subspan(at, count);
    };
    SequenceState state = Addresser::Start();
    const uint64_t lookback = listed ? sequences.lookback[i] : 0;
    const uint64_t tokens = listed ? sequences.tokens[i] : sequences.total_tokens;
    absl::Status status = addresser.Advance(ids(lookback), dead(lookback), &state);
    absl::string_view part = "lookback";
    if (status.ok()) {
      at += lookback;
      part = "tokens";
      status = addresser.Address(state, ids(tokens), dead(tokens), outputs);
    }
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(part, " of sequence ", i, ": ", status.message()));
    }
    at += tokens;
    Advance(tokens, outputs);
  }
  return absl::OkStatus();
}

// The windows of every sequence, and that the sequences are the token ids that there are.
absl::Status CheckWindows(const WantedSequences& wanted, const AddressScheme& scheme) {
  if (wanted.lookback != scheme.Lookback()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a window of ", wanted.lookback, " tokens: the table set looks back ", scheme.Lookback()));
  }
  if (wanted.windows.size() != uint64_t{wanted.lookback} * wanted.sequence_tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "windows of ", wanted.windows.size(), " ids for ", wanted.sequence_tokens.size(),
        " sequences: give ", wanted.lookback, " for each"));
  }
  if (!wanted.dead.empty() && wanted.dead.size() != wanted.token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a dead mask of ", wanted.dead.size(),
                                                   " bytes for ", wanted.token_ids.size(),
                                                   " token ids: give one for each, or none"));
  }
  uint64_t tokens = 0;
  for (size_t i = 0; i < wanted.sequence_tokens.size(); ++i) {
    if (wanted.sequence_tokens[i] == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", i, " asks for no token: leave it out"));
    }
    tokens += wanted.sequence_tokens[i];
  }
  if (tokens != wanted.token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the sequences name ", tokens, " tokens and there are ", wanted.token_ids.size()));
  }
  const int64_t ids =
      scheme.token_map ? scheme.token_map->compressed_vocab_size : scheme.vocab_size;
  for (size_t i = 0; i < wanted.windows.size(); ++i) {
    const int32_t id = wanted.windows[i];
    const bool behind_blocked = i % wanted.lookback > 0 && wanted.windows[i - 1] < 0;
    if (id < -1 || id >= ids || (behind_blocked && id >= 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the window of sequence ", i / wanted.lookback, " holds ", id,
                       behind_blocked ? " behind a blocked token"
                                      : absl::StrCat(": compressed ids are below ", ids)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PreparedLookup::AddLayer(uint32_t number, const ColumnSlice* slice) {
  const LoadedLayer* loaded = set_->FindLayer(number);
  if (loaded == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "table set ", set_->name(), " has no layer ", number, ": ask for one of ",
        absl::StrJoin(set_->layers(), ", ", [](std::string* out, const LoadedLayer& layer) {
          absl::StrAppend(out, layer.layer);
        })));
  }
  // A table set has a few layers, so the quadratic look is short.
  for (const Layer& layer : layers_) {
    if (layer.layer == number) {
      return InvalidLayer(number, "is asked for twice: merge its row ids");
    }
  }
  if (slice != nullptr) {
    const absl::Status status = slice->Check(number, set_->addresser().scheme().Columns());
    if (!status.ok()) return InvalidLayer(number, status.message());
  }
  layers_.push_back({.layer = number,
                     .index = static_cast<size_t>(loaded - set_->layers().data()),
                     .table = loaded->table,
                     .rows = 0,
                     .ids32 = {},
                     .ids64 = {},
                     .slice = slice});
  return absl::OkStatus();
}

absl::Status PreparedLookup::AddLayers(absl::Span<const uint32_t> layers,
                                       absl::Span<const ColumnSlice> slices) {
  if (!slices.empty() && slices.size() != layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat(slices.size(), " slices of columns for ",
                                                   layers.size(),
                                                   " layers: give one for each layer, or none"));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(AddLayer(layers[i], slices.empty() ? nullptr : &slices[i]));
  }
  return absl::OkStatus();
}

uint64_t PreparedLookup::Rows() const {
  uint64_t rows = 0;
  for (const Layer& layer : layers_) rows += layer.rows;
  return rows;
}

uint64_t PreparedLookup::RowsBytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < layers_.size(); ++i) bytes += LayerBytes(i);
  return bytes;
}

absl::Status PreparedLookup::CheckSize(const LookupLimits& limits) const {
  const uint64_t rows = Rows();
  if (rows > limits.max_batch_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("the batch has ", rows, " rows: split it, at most ", limits.max_batch_rows,
                     " rows a batch are taken here"));
  }
  if (limits.max_reply_bytes == 0) return absl::OkStatus();
  const uint64_t framing = kReplyFramingBytes + layers_.size() * kLayerFramingBytes;
  const uint64_t bytes = RowsBytes();
  if (bytes == 0 || framing + bytes <= limits.max_reply_bytes) return absl::OkStatus();
  const uint64_t room = limits.max_reply_bytes - std::min(framing, limits.max_reply_bytes);
  // The rows of a batch are of one width, or of a few: the mean tells how many fit.
  return absl::InvalidArgumentError(
      absl::StrCat("the reply would hold ", bytes,
                   " bytes of rows, more than one unary reply of at most ", limits.max_reply_bytes,
                   " bytes: call LookupStream, which answers in parts, or split the batch, ",
                   "at most ", room * rows / bytes, " rows of these layers a request"));
}

absl::Status PreparedLookup::CheckHeld() const {
  if (source().holds_all()) return absl::OkStatus();
  for (const Layer& layer : layers_) {
    const HeldLayer& held = source().held()[layer.index];
    const LayerAddressing& addressing = set_->manifest().scheme.layers[layer.index];
    ENGRAM_RETURN_IF_ERROR(layer.ids32.empty() ? CheckHeldRows(held, addressing, layer.ids64)
                                               : CheckHeldRows(held, addressing, layer.ids32));
  }
  return absl::OkStatus();
}

void PreparedLookup::Release() {
  set_.reset();
  layers_.clear();
  for (std::vector<RowId>& ids : addressed_) ids.clear();
}

absl::Status PreparedLookup::Prepare(std::shared_ptr<const TableSet> set,
                                     absl::FunctionRef<absl::Status()> add) {
  Release();
  set_ = std::move(set);
  absl::Status status = add();
  std::erase_if(layers_, [](const Layer& layer) { return layer.rows == 0; });
  if (status.ok()) status = CheckHeld();
  if (!status.ok()) Release();
  return status;
}

absl::Status PreparedLookup::PrepareRows(std::shared_ptr<const TableSet> set,
                                         absl::Span<const WantedRows> wanted,
                                         const LookupLimits& limits) {
  return Prepare(std::move(set), [&] { return AddRows(wanted, limits); });
}

absl::Status PreparedLookup::PrepareTokens(std::shared_ptr<const TableSet> set,
                                           const WantedTokens& wanted, const LookupLimits& limits) {
  return Prepare(std::move(set), [&] { return AddTokens(wanted, limits); });
}

absl::Status PreparedLookup::PrepareSequences(std::shared_ptr<const TableSet> set,
                                              const WantedSequences& wanted,
                                              const LookupLimits& limits) {
  return Prepare(std::move(set), [&] { return AddSequences(wanted, limits); });
}

absl::Status PreparedLookup::AddRows(absl::Span<const WantedRows> wanted,
                                     const LookupLimits& limits) {
  if (wanted.empty()) return EmptyBatch();
  for (const WantedRows& rows : wanted) {
    ENGRAM_RETURN_IF_ERROR(AddLayer(rows.layer, rows.slice));
    Layer& layer = layers_.back();
    layer.ids32 = rows.ids32;
    layer.ids64 = rows.ids64;
    layer.rows = rows.ids32.size() + rows.ids64.size();
    if (!layer.ids32.empty() && !layer.ids64.empty()) {
      return InvalidLayer(layer.layer, "row_ids32 and row_ids64 are both given: use one of them");
    }
    if (layer.rows == 0 && (layer.slice == nullptr || !layer.slice->empty())) {
      return InvalidLayer(layer.layer, "it has no row ids: leave the layer out or ask for rows");
    }
  }
  absl::Status status = CheckSize(limits);
  for (size_t i = 0; status.ok() && i < layers_.size(); ++i) {
    status = CheckIds(layers_[i]);
    if (!status.ok()) status = InvalidLayer(layers_[i].layer, status.message());
  }
  return status;
}

// A column's rows are the table's, so the one check or the other is enough.
absl::Status PreparedLookup::CheckIds(const Layer& layer) const {
  if (layer.slice == nullptr) {
    ENGRAM_RETURN_IF_ERROR(CheckRowIds<uint32_t>(layer.table, layer.ids32));
    return CheckRowIds<uint64_t>(layer.table, layer.ids64);
  }
  const LayerAddressing* const addressing = set_->addresser().scheme().FindLayer(layer.layer);
  ENGRAM_CHECK(addressing != nullptr, "a layer of a table set without its addressing");
  if (layer.ids64.empty()) return CheckColumnIds(*addressing, *layer.slice, layer.ids32);
  return CheckColumnIds(*addressing, *layer.slice, layer.ids64);
}

absl::Status PreparedLookup::AddTokens(const WantedTokens& wanted, const LookupLimits& limits) {
  const Addresser& addresser = AddresserFor(*set_, wanted.allow_unmasked_images);
  const AddressScheme& scheme = addresser.scheme();
  const auto descent = std::is_sorted_until(wanted.layers.begin(), wanted.layers.end());
  if (descent != wanted.layers.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens.layers must ascend: ", descent[-1], " stands before ", *descent));
  }
  absl::InlinedVector<uint32_t, 8> layers(wanted.layers.begin(), wanted.layers.end());
  if (layers.empty()) {
    for (const LayerAddressing& layer : scheme.layers) layers.push_back(layer.layer);
  }
  ENGRAM_RETURN_IF_ERROR(AddLayers(layers, wanted.slices));
  ENGRAM_ASSIGN_OR_RETURN(const Sequences sequences, CheckSequences(wanted, scheme.Lookback()));
  Outputs outputs;
  ENGRAM_RETURN_IF_ERROR(MakeRoom(sequences.total_tokens, limits, &outputs));
  return AddressSequences(addresser, wanted, sequences, absl::MakeSpan(outputs));
}

absl::Status PreparedLookup::AddSequences(const WantedSequences& wanted,
                                          const LookupLimits& limits) {
  if (wanted.layers.empty() || wanted.token_ids.empty()) return EmptyBatch();
  ENGRAM_RETURN_IF_ERROR(AddLayers(wanted.layers, wanted.slices));
  for (const Layer& layer : layers_) {
    if (layer.slice != nullptr && layer.slice->empty()) {
      return InvalidLayer(layer.layer, "its slice has no columns: leave the layer out");
    }
  }
  const Addresser& addresser = AddresserFor(*set_, wanted.allow_unmasked_images);
  const AddressScheme& scheme = addresser.scheme();
  absl::Status status = CheckWindows(wanted, scheme);
  Outputs outputs;
  if (status.ok()) status = MakeRoom(wanted.token_ids.size(), limits, &outputs);
  uint64_t at = 0;
  for (size_t i = 0; status.ok() && i < wanted.sequence_tokens.size(); ++i) {
    const uint32_t tokens = wanted.sequence_tokens[i];
    SequenceState state = Addresser::Start();
    for (uint32_t j = 0; j < wanted.lookback; ++j) {
      const int32_t id = wanted.windows[i * wanted.lookback + j];
      if (id >= 0) state.ids[j] = id;
    }
    status = addresser.Address(state, wanted.token_ids.subspan(at, tokens),
                               wanted.dead.empty() ? wanted.dead : wanted.dead.subspan(at, tokens),
                               outputs);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("sequence ", i, ": ", status.message()));
    }
    at += tokens;
    Advance(tokens, absl::MakeSpan(outputs));
  }
  return status;
}

absl::Status PreparedLookup::MakeRoom(uint64_t tokens, const LookupLimits& limits,
                                      Outputs* outputs) {
  const AddressScheme& scheme = set_->addresser().scheme();
  for (Layer& layer : layers_) {
    layer.rows = tokens * (layer.slice == nullptr ? scheme.Columns() : layer.slice->columns());
  }
  ENGRAM_RETURN_IF_ERROR(CheckSize(limits));
  if (addressed_.size() < layers_.size()) addressed_.resize(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto at = std::find_if(scheme.layers.begin(), scheme.layers.end(),
                                 [&](const auto& l) { return l.layer == layers_[i].layer; });
    addressed_[i].resize(layers_[i].rows);
    layers_[i].ids64 = addressed_[i];
    outputs->push_back({.layer_index = static_cast<uint32_t>(at - scheme.layers.begin()),
                        .rows = addressed_[i].data(),
                        .token_stride = layers_[i].rows / tokens,
                        .slice = layers_[i].slice});
  }
  return absl::OkStatus();
}

uint64_t PreparedLookup::AddressedBytes() const {
  uint64_t bytes = 0;
  for (const std::vector<RowId>& ids : addressed_) bytes += ids.size() * sizeof(RowId);
  return bytes;
}

uint64_t PreparedLookup::KeptBytes() const {
  uint64_t bytes = 0;
  for (const std::vector<RowId>& ids : addressed_) bytes += ids.capacity() * sizeof(RowId);
  return bytes;
}

WantedRun PreparedLookup::Wanted(size_t i, uint64_t first, uint64_t count) const {
  const Layer& layer = layers_[i];
  WantedRun run{.layer = layer.index};
  if (!layer.ids32.empty()) {
    run.ids32 = layer.ids32.subspan(first, count);
  } else {
    run.ids64 = layer.ids64.subspan(first, count);
  }
  return run;
}

void PreparedLookup::Gather(size_t i, uint64_t first, uint64_t count, GatherTeam& team,
                            const Landing& landing) const {
  ENGRAM_CHECK(source().resident(), "rows are gathered where they do not lie");
  const Layer& layer = layers_[i];
  if (!layer.ids32.empty()) {
    team.Gather<uint32_t>(layer.table, layer.ids32.subspan(first, count), landing);
  } else {
    team.Gather<uint64_t>(layer.table, layer.ids64.subspan(first, count), landing);
  }
}

}  // namespace engram
