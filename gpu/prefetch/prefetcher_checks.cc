#include "gpu/prefetch/prefetcher_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/base/clock.h"
#include "memstore/base/status_macros.h"

namespace engram {

namespace {

absl::Status CheckSlices(absl::Span<const ColumnSlice> slices, const Manifest& manifest) {
  if (slices.empty()) return absl::OkStatus();
  if (slices.size() != manifest.layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there are ", slices.size(), " slices, and the table set has ", manifest.layers.size(),
        " layers: give one a layer, one of no columns for what is not read, or none at all"));
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    const absl::Status status =
        slices[i].Check(manifest.layers[i].layer, manifest.scheme.Columns());
    if (status.ok()) continue;
    return absl::Status(status.code(), absl::StrCat("slices[", i, "]: ", status.message()));
  }
  return absl::OkStatus();
}

absl::Status CheckMaxTokens(const PrefetcherOptions& options, const Manifest& manifest) {
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    const uint32_t columns =
        options.slices.empty() ? manifest.scheme.Columns() : options.slices[i].columns();
    const uint64_t most = kMaxLayerBytes / (uint64_t{std::max(columns, 1u)} * layer.row_bytes);
    if (options.max_tokens >= 1 && options.max_tokens <= most) continue;
    return absl::InvalidArgumentError(absl::StrCat("max_tokens is ", options.max_tokens,
                                                   ": for layer ", layer.layer, " it may be 1 to ",
                                                   most));
  }
  return absl::OkStatus();
}

// Row sizes of what has columns; a layer of none has no rows.
absl::Status CheckOneRowSize(const PrefetcherOptions& options, const Manifest& manifest) {
  const LayerTableSpec* first = nullptr;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    if (!options.slices.empty() && options.slices[i].empty()) continue;
    if (first == nullptr) first = &layer;
    if (layer.row_bytes == first->row_bytes) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "a hot cache is for rows of one size: those of layer ", layer.layer, " have ",
        layer.row_bytes, " bytes, those of layer ", first->layer, " ", first->row_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPrefetcherOptions(const PrefetcherOptions& options, const Manifest& manifest) {
  if (options.slots < 1 || options.slots > kMaxSlots) {
    return absl::InvalidArgumentError(
        absl::StrCat("slots is ", options.slots, ": it may be 1 to ", kMaxSlots));
  }
  ENGRAM_RETURN_IF_ERROR(CheckSlices(options.slices, manifest));
  ENGRAM_RETURN_IF_ERROR(CheckMaxTokens(options, manifest));
  if (options.distinct && options.place_rows == nullptr) {
    return absl::InvalidArgumentError(
        "distinct needs place_rows, which puts each row in all its places");
  }
  if (options.distinct && options.path == FetchPath::kMapped) {
    return absl::InvalidArgumentError("distinct is for transports: mapped rows are read in place");
  }
  if (options.hot_cache_bytes > 0) {
    if (options.path == FetchPath::kMapped || options.distinct) {
      return absl::InvalidArgumentError(
          "a hot cache is for rows that travel as they are: without kMapped and without distinct");
    }
    ENGRAM_RETURN_IF_ERROR(CheckOneRowSize(options, manifest));
  }
  if (options.place_rows != nullptr && options.placed_row_bytes == 0) {
    return absl::InvalidArgumentError("place_rows needs placed_row_bytes");
  }
  return absl::OkStatus();
}

absl::Status CheckStep(const Step& step, const PrefetcherOptions& options,
                       const AddressScheme& scheme) {
  const bool on_device = step.device_row_ids != nullptr;
  if (on_device && (!step.sequences.empty() || !step.token_ids.empty() || !step.dead.empty())) {
    return absl::InvalidArgumentError("a step has token ids or device_row_ids, not both");
  }
  const uint64_t tokens = on_device ? step.device_tokens : step.token_ids.size();
  if (tokens == 0) return absl::InvalidArgumentError("a step needs at least one token");
  if (tokens > options.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the step has ", tokens,
                                                   " tokens, the buffers hold ", options.max_tokens,
                                                   ": cut the batch or raise max_tokens"));
  }
  uint64_t of_sequences = 0;
  for (const SequenceTokens& sequence : step.sequences) of_sequences += sequence.tokens;
  if (!on_device && of_sequences != tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequences have ", of_sequences, " tokens, token_ids has ", tokens));
  }
  if (step.sequences.size() > options.max_tokens) {
    return absl::InvalidArgumentError("some of the sequences have no tokens: leave them out");
  }
  if (!step.dead.empty() && step.dead.size() != tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("the dead mask has ", step.dead.size(), " bytes for ", tokens, " tokens"));
  }
  if (!step.dead.empty() && !scheme.dead_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("the family ", scheme.family, " has no dead positions"));
  }
  if (step.deadline == MonotonicTime() || step.deadline == MonotonicTime::Infinite()) {
    return absl::InvalidArgumentError(
        "a step needs a deadline: streams wait for it at the longest");
  }
  return absl::OkStatus();
}

}  // namespace engram
