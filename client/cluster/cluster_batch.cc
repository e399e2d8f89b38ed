#include "client/cluster/cluster_batch.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Of a batch that is kept to be used again: a prefill's of thousands of tokens, some MiB of ids.
constexpr uint64_t kMaxKeptRows = uint64_t{1} << 18;

// Whether the store takes the slices as they are.
bool TakesTokens(const Capabilities& store, uint32_t longest, absl::Span<const LayerRequest> layers,
                 absl::Span<const ColumnSlice> slices) {
  if (store.max_sequence_tokens < longest) return false;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!store.token_slices && !slices[i].is_all()) return false;
    if (!store.tokens_at_places && !layers[i].landing.places.empty()) return false;
  }
  return true;
}

}  // namespace

void ClusterBatch::Fill(const BatchRequest& request, const Manifest& manifest,
                        const ClusterMap& map) {
  requests_.clear();
  numbers_.clear();
  places_.clear();
  slices_.clear();
  slices_.reserve(request.layers.size());  // they are pointed at
  id = 0;
  more_.clear();
  more_parts_.clear();
  by_tokens_ = request.tokens != nullptr;
  token_ids_.clear();
  if (request.tokens != nullptr) FillTokens(*request.tokens);
  for (size_t i = 0; i < request.layers.size(); ++i) {
    if (AsksForNoRows(request, i)) continue;
    const LayerRequest& layer = request.layers[i];
    const LayerTableSpec* const spec = manifest.FindLayer(layer.layer);
    ENGRAM_CHECK(spec != nullptr, "a batch that was not checked");
    SplitRequest& split =
        requests_.emplace_back(SplitRequest{.layer_index = map.IndexOfLayer(layer.layer),
                                            .row_bytes = spec->row_bytes,
                                            .row_ids = layer.row_ids,
                                            .slice = layer.slice,
                                            .tokens = token_ids_.size(),
                                            .landing = layer.landing});
    if (request.tokens != nullptr) {
      split.slice = &slices_.emplace_back(request.tokens->slices.empty()
                                              ? ColumnSlice::All(manifest.scheme.Columns())
                                              : request.tokens->slices[i]);
    }
    numbers_.push_back(layer.layer);
    places_.push_back(i);
    rows_ = std::max<uint64_t>({rows_, layer.row_ids.size(), token_ids_.size()});
  }
  if (kept_.size() < requests_.size()) kept_.resize(requests_.size());
}

absl::Status ClusterBatch::Split(BatchSplitter& splitter, bool is_registered) {
  if (!is_registered || !splitter.Split(requests_, SplitStyle::kRuns, &split_).ok()) {
    ENGRAM_RETURN_IF_ERROR(splitter.Split(requests_, SplitStyle::kPlaces, &split_));
  }
  is_copied.assign(split_.parts().size(), 0);
  for (Kept& kept : kept_) kept.has_ids = kept.has_places = false;
  for (const SplitPart& part : split_.parts()) {
    for (const PartLayer& layer : part.layers) {
      const SplitRequest& request = requests_[layer.request];
      const absl::Span<const uint32_t> places = layer.landing.places;
      Kept& kept = kept_[layer.request];
      if (!layer.row_ids.empty() && layer.row_ids.data() == request.row_ids.data()) {
        kept.has_ids = true;
        kept.ids.assign(layer.row_ids.begin(), layer.row_ids.end());
      }
      if (!places.empty() && places.data() == request.landing.places.data()) {
        kept.has_places = true;
        kept.places.assign(places.begin(), places.end());
      }
    }
  }
  return absl::OkStatus();
}

std::unique_ptr<BatchSplit> ClusterBatch::SplitAgain(uint32_t number,
                                                     absl::Span<const uint32_t> requests,
                                                     BatchSplitter& splitter) const {
  // Of all layers, so that each keeps its number; those that are not asked for have no ids.
  std::vector<SplitRequest> layers(requests_.size());
  for (const PartLayer& layer : PartAt(number).layers) {
    if (!absl::c_linear_search(requests, layer.request)) continue;
    const LayerRequest request = RequestOf(number, layer);
    layers[layer.request] = {.layer_index = requests_[layer.request].layer_index,
                             .row_bytes = requests_[layer.request].row_bytes,
                             .row_ids = request.row_ids,
                             .slice = request.slice,
                             .tokens = by_tokens_ ? token_ids_.size() : 0,
                             .landing = request.landing};
  }
  auto split = std::make_unique<BatchSplit>();
  const absl::Status status = splitter.Split(layers, SplitStyle::kPlaces, split.get());
  ENGRAM_CHECK(status.ok(), "what was split once cannot be split");
  return split;
}

void ClusterBatch::Add(std::unique_ptr<BatchSplit> split) {
  more_parts_.insert(more_parts_.end(), split->parts().begin(), split->parts().end());
  more_.push_back(std::move(split));
  is_copied.resize(split_.parts().size() + more_parts_.size(), 0);
}

void ClusterBatch::FillTokens(const TokenBatch& tokens) {
  sequences_.assign(tokens.sequences.begin(), tokens.sequences.end());
  token_ids_.assign(tokens.token_ids.begin(), tokens.token_ids.end());
  dead_.assign(tokens.dead.begin(), tokens.dead.end());
  allow_unmasked_images_ = tokens.allow_unmasked_images;
  longest_ = 1;
  for (const SequenceTokens& sequence : sequences_) longest_ = std::max(longest_, sequence.tokens);
}

LayerRequest ClusterBatch::RequestOf(uint32_t number, const PartLayer& layer) const {
  LayerRequest request = {.layer = numbers_[layer.request],
                          .row_ids = layer.row_ids,
                          .landing = layer.landing,
                          .slice = layer.slice};
  const Kept& kept = kept_[layer.request];
  if (number >= split_.parts().size()) return request;
  if (kept.has_ids) request.row_ids = kept.ids;
  if (kept.has_places) request.landing.places = kept.places;
  return request;
}

bool ClusterBatch::MayBeKept() const { return rows_ <= kMaxKeptRows; }

absl::StatusOr<PartAddressers> PartAddressers::Create(const AttachedTableSet& set) {
  const AddressScheme& scheme = set.manifest.scheme;
  const ShortSetId id = ShortSetId::Of(set.manifest.id);
  PartAddressers made;
  ENGRAM_ASSIGN_OR_RETURN(made.refuses_images,
                          Addresser::Create(scheme, set.token_map, id, set.image_token_ids));
  made.takes_images = made.refuses_images;
  if (set.image_token_ids.empty()) return made;
  ENGRAM_ASSIGN_OR_RETURN(made.takes_images, Addresser::Create(scheme, set.token_map, id));
  return made;
}

void PartRequest::Clear() {
  layers_.clear();
  slices_.clear();
  layer_indexes_.clear();
}

void PartRequest::Add(const ClusterBatch& batch, uint32_t number, const PartLayer& layer) {
  LayerRequest& request = layers_.emplace_back(batch.RequestOf(number, layer));
  if (!batch.by_tokens_) return;
  slices_.push_back(*layer.slice);
  layer_indexes_.push_back(batch.requests_[layer.request].layer_index);
  request.slice = nullptr;
}

absl::StatusOr<BatchRequest> PartRequest::For(const Capabilities& store, const ClusterBatch& batch,
                                              const PartAddressers& addressers) {
  BatchRequest request = {.layers = layers_};
  if (!batch.by_tokens_) return request;
  if (TakesTokens(store, batch.longest_, layers_, slices_)) {
    tokens_ = {batch.sequences_, batch.token_ids_, batch.dead_, slices_,
               batch.allow_unmasked_images_};
    if (std::all_of(slices_.begin(), slices_.end(), [](const auto& s) { return s.is_all(); })) {
      tokens_.slices = {};  // what every owner takes
    }
    request.tokens = &tokens_;
    return request;
  }
  if (ids_.size() < layers_.size()) ids_.resize(layers_.size());
  outputs_.clear();
  for (size_t i = 0; i < layers_.size(); ++i) {
    const uint32_t columns = slices_[i].columns();
    ids_[i].resize(batch.token_ids_.size() * columns);
    layers_[i].row_ids = ids_[i];
    layers_[i].slice = &slices_[i];
    outputs_.push_back({.layer_index = layer_indexes_[i],
                        .rows = ids_[i].data(),
                        .token_stride = columns,
                        .slice = &slices_[i]});
  }
  const Addresser& addresser =
      batch.allow_unmasked_images_ ? *addressers.takes_images : *addressers.refuses_images;
  ENGRAM_RETURN_IF_ERROR(
      addresser.AddressSequences(batch.sequences_, batch.token_ids_, batch.dead_, outputs_));
  return request;
}

}  // namespace engram
