#include "client/transport/batch_check.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/column_check.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/partition/held_check.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

std::string LayersOf(const Manifest& manifest) {
  std::string there;
  for (const LayerTableSpec& layer : manifest.layers) absl::StrAppend(&there, " ", layer.layer);
  return there;
}

absl::Status CheckLanding(const Landing& landing, uint64_t rows, const LayerTableSpec& layer,
                          const Capabilities& capabilities) {
  if (landing.data == nullptr) {
    return absl::InvalidArgumentError("no landing buffer: set landing.data");
  }
  if (!landing.places.empty() && !capabilities.lands_at_places) {
    return absl::UnimplementedError(
        absl::StrCat("a list of places, which the ", capabilities.name,
                     " transport has no way to land at: ask for the rows in the order of places"));
  }
  return landing.Extent(rows, layer.row_bytes).status();
}

// A column's rows are the table's (CheckManifest), so that check is enough where it is made.
absl::Status CheckIds(const LayerRequest& request, const LayerTableSpec& layer,
                      const AddressScheme& scheme) {
  if (request.slice == nullptr) {
    return CheckRowIds<RowId>({.rows = layer.rows, .row_bytes = layer.row_bytes}, request.row_ids);
  }
  const LayerAddressing* const addressing = scheme.FindLayer(layer.layer);
  if (addressing == nullptr) {
    return absl::InvalidArgumentError("a slice of columns, and the scheme has no such layer");
  }
  return CheckColumnIds(*addressing, *request.slice, request.row_ids);
}

absl::Status CheckRows(const LayerRequest& request, const LayerTableSpec& layer,
                       const AddressScheme& scheme, const Capabilities& capabilities) {
  const bool nothing_asked = request.slice != nullptr && request.slice->empty();
  if (request.row_ids.empty() && !nothing_asked) {
    return absl::InvalidArgumentError("no row ids: leave the layer out or ask for rows");
  }
  if (!nothing_asked) {
    ENGRAM_RETURN_IF_ERROR(
        CheckLanding(request.landing, request.row_ids.size(), layer, capabilities));
  }
  return CheckIds(request, layer, scheme);
}

// `columns`: of the layer's slice, or all.
absl::Status CheckRowsByTokens(const LayerRequest& request, const LayerTableSpec& layer,
                               const Capabilities& capabilities, uint64_t tokens,
                               uint32_t columns) {
  if (!request.row_ids.empty()) {
    return absl::InvalidArgumentError("row ids in a batch by token ids: give one of the two");
  }
  if (request.slice != nullptr) {
    return absl::InvalidArgumentError(
        "a slice for row ids in a batch by token ids: give slices with the tokens");
  }
  if (columns == 0) return absl::OkStatus();
  const Landing& landing = request.landing;
  ENGRAM_RETURN_IF_ERROR(CheckLanding(landing, tokens * columns, layer, capabilities));
  if (!landing.places.empty()) {
    if (capabilities.tokens_at_places) return absl::OkStatus();
    return absl::InvalidArgumentError("a list of places in a batch by token ids: leave it out");
  }
  if (landing.group_rows == 0 || landing.group_rows == columns) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("groups of ", landing.group_rows,
                                                 " rows in a batch by token ids: a token's ",
                                                 columns, " rows land together"));
}

absl::Status CheckTokenSlices(const BatchRequest& batch, const AddressScheme& scheme,
                              const Capabilities& capabilities) {
  const absl::Span<const ColumnSlice> slices = batch.tokens->slices;
  const auto layer = [&](size_t i) { return batch.layers[i].layer; };
  ENGRAM_RETURN_IF_ERROR(CheckSlices(slices, batch.layers.size(), layer, scheme.Columns()));
  if (slices.empty() || capabilities.token_slices) return absl::OkStatus();
  return wire::LacksFeature(wire::kTokenSlices, absl::StrCat("the owner over ", capabilities.name),
                            capabilities.owner_version);
}

// It travels in 32 bits; whether the scheme has such ids is the owner's to say.
absl::Status CheckWindow(size_t sequence, const SequenceState& state, uint32_t lookback) {
  for (uint32_t i = 0; i < lookback; ++i) {
    const int64_t id = state.ids[i];
    if (id == SequenceState::kBlocked || (id >= 0 && id <= std::numeric_limits<int32_t>::max())) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the state of sequence ", sequence, " holds ", id,
                     ": compressed ids are not negative, and of 31 bits"));
  }
  return absl::OkStatus();
}

absl::Status CheckTokens(const BatchRequest& batch, const Manifest& manifest,
                         const Capabilities& capabilities) {
  const TokenBatch& tokens = *batch.tokens;
  const uint32_t most = capabilities.max_sequence_tokens;
  if (most == 0) {
    return absl::UnimplementedError(
        "this transport takes row ids: Client::SubmitTokens works them out where it is so");
  }
  const ShortSetId set = ShortSetId::Of(manifest.id);
  uint64_t count = 0;
  for (size_t i = 0; i < tokens.sequences.size(); ++i) {
    const auto& [state, length] = tokens.sequences[i];
    if (length < 1 || length > most) {
      return absl::InvalidArgumentError(absl::StrCat("sequence ", i, " has ", length,
                                                     " tokens: 1 to ", most,
                                                     " at once, longer ones in parts"));
    }
    ENGRAM_RETURN_IF_ERROR(CheckWindow(i, state, manifest.scheme.Lookback()));
    // Where the tokens are addressed nothing shows any more whose state it was.
    if (state.set != set && !state.set.is_none()) {
      return CheckSameSet(absl::StrCat("the state of sequence ", i), state.set, set,
                          "start the sequence again from its last tokens");
    }
    count += length;
  }
  if (count != tokens.token_ids.size() ||
      (!tokens.dead.empty() && tokens.dead.size() != tokens.token_ids.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequences have ", count, " tokens, and there are ",
                     tokens.token_ids.size(), " token ids and ", tokens.dead.size(),
                     " bytes of dead mask: one of each for each token, or no mask"));
  }
  return CheckTokenSlices(batch, manifest.scheme, capabilities);
}

}  // namespace

absl::Status CheckBatch(const BatchRequest& batch, const Manifest& manifest,
                        const Capabilities& capabilities, const Clock& clock) {
  if (batch.layers.empty()) {
    return absl::InvalidArgumentError("the batch is empty: ask for at least one row");
  }
  const TokenBatch* const tokens = batch.tokens;
  if (tokens != nullptr) {
    ENGRAM_RETURN_IF_ERROR(CheckTokens(batch, manifest, capabilities));
  }
  uint64_t rows = 0;
  for (size_t i = 0; i < batch.layers.size(); ++i) {
    const LayerRequest& request = batch.layers[i];
    for (size_t j = 0; j < i; ++j) {
      if (batch.layers[j].layer == request.layer) {
        return absl::InvalidArgumentError(
            absl::StrCat("layer ", request.layer, " is named twice: merge its row ids"));
      }
    }
    const LayerTableSpec* const layer = manifest.FindLayer(request.layer);
    if (layer == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", request.layer,
                                                     ": it is not in table set ", manifest.name,
                                                     ", which has layers", LayersOf(manifest)));
    }
    const uint32_t columns = tokens == nullptr || tokens->slices.empty()
                                 ? manifest.scheme.Columns()
                                 : tokens->slices[i].columns();
    const absl::Status status =
        tokens == nullptr
            ? CheckRows(request, *layer, manifest.scheme, capabilities)
            : CheckRowsByTokens(request, *layer, capabilities, tokens->token_ids.size(), columns);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("layer ", request.layer, ": ", status.message()));
    }
    rows += tokens == nullptr ? request.row_ids.size() : tokens->token_ids.size() * columns;
  }
  if (rows > capabilities.max_batch_rows) {
    return absl::InvalidArgumentError(absl::StrCat("the batch has ", rows, " rows, more than the ",
                                                   capabilities.max_batch_rows,
                                                   " allowed: split it"));
  }
  if (!batch.deadline.is_infinite() && batch.deadline <= clock.Now()) {
    return absl::DeadlineExceededError(
        "the deadline had passed before the batch was submitted: give it a later one");
  }
  return absl::OkStatus();
}

absl::Status CheckBatchIsHeld(const BatchRequest& batch, const AttachedTableSet& set) {
  if (set.held.empty()) return absl::OkStatus();
  const std::vector<LayerAddressing>& layers = set.manifest.scheme.layers;
  for (const LayerRequest& request : batch.layers) {
    const auto layer = std::find_if(layers.begin(), layers.end(), [&](const LayerAddressing& one) {
      return one.layer == request.layer;
    });
    ENGRAM_CHECK(layer != layers.end(), "a batch that was not checked");
    ENGRAM_RETURN_IF_ERROR(
        CheckHeldRows(set.held[layer - layers.begin()], *layer, request.row_ids));
  }
  return absl::OkStatus();
}

}  // namespace engram
