#include "gpu/prefetch/prefetcher_checks.h"

#include "absl/strings/str_cat.h"
#include "memstore/base/clock.h"

namespace engram {

absl::Status CheckPrefetcherOptions(const PrefetcherOptions& options, const Manifest& manifest) {
  if (options.slots < 1 || options.slots > kMaxSlots) {
    return absl::InvalidArgumentError(
        absl::StrCat("slots is ", options.slots, ": it may be 1 to ", kMaxSlots));
  }
  for (const LayerTableSpec& layer : manifest.layers) {
    const uint64_t most = kMaxLayerBytes / (uint64_t{manifest.scheme.Columns()} * layer.row_bytes);
    if (options.max_tokens < 1 || options.max_tokens > most) {
      return absl::InvalidArgumentError(absl::StrCat("max_tokens is ", options.max_tokens,
                                                     ": for layer ", layer.layer,
                                                     " it may be 1 to ", most));
    }
  }
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
    for (const LayerTableSpec& layer : manifest.layers) {
      if (layer.row_bytes == manifest.layers[0].row_bytes) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("a hot cache is for rows of one size: those of layer ", layer.layer,
                       " have ", layer.row_bytes, " bytes, those of layer ",
                       manifest.layers[0].layer, " ", manifest.layers[0].row_bytes));
    }
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
