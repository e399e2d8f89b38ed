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

}  // namespace

void ClusterBatch::Fill(const BatchRequest& request, const Manifest& manifest,
                        const ClusterMap& map) {
  requests_.clear();
  numbers_.clear();
  places_.clear();
  id = 0;
  more_.clear();
  more_parts_.clear();
  for (size_t i = 0; i < request.layers.size(); ++i) {
    if (AsksForNoRows(request, i)) continue;
    const LayerRequest& layer = request.layers[i];
    const LayerTableSpec* const spec = manifest.FindLayer(layer.layer);
    ENGRAM_CHECK(spec != nullptr, "a batch that was not checked");
    requests_.push_back({.layer_index = map.IndexOfLayer(layer.layer),
                         .row_bytes = spec->row_bytes,
                         .row_ids = layer.row_ids,
                         .slice = layer.slice,
                         .landing = layer.landing});
    numbers_.push_back(layer.layer);
    places_.push_back(i);
    rows_ = std::max<uint64_t>(rows_, layer.row_ids.size());
  }
  if (kept_.size() < requests_.size()) kept_.resize(requests_.size());
}

absl::Status ClusterBatch::Split(BatchSplitter& splitter, bool is_registered) {
  if (!is_registered || !splitter.Split(requests_, SplitStyle::kRuns, &split_).ok()) {
    ENGRAM_RETURN_IF_ERROR(splitter.Split(requests_, SplitStyle::kPlaces, &split_));
  }
  is_copied.assign(split_.parts().size(), 0);
  for (Kept& kept : kept_) kept.is_kept = false;
  for (const SplitPart& part : split_.parts()) {
    for (const PartLayer& layer : part.layers) {
      const SplitRequest& request = requests_[layer.request];
      if (layer.row_ids.data() != request.row_ids.data()) continue;
      Kept& kept = kept_[layer.request];
      kept.is_kept = true;
      kept.ids.assign(layer.row_ids.begin(), layer.row_ids.end());
      kept.places.assign(layer.landing.places.begin(), layer.landing.places.end());
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

LayerRequest ClusterBatch::RequestOf(uint32_t number, const PartLayer& layer) const {
  LayerRequest request = {.layer = numbers_[layer.request],
                          .row_ids = layer.row_ids,
                          .landing = layer.landing,
                          .slice = layer.slice};
  const Kept& kept = kept_[layer.request];
  if (kept.is_kept && number < split_.parts().size()) {
    request.row_ids = kept.ids;
    request.landing.places = kept.places;
  }
  return request;
}

bool ClusterBatch::MayBeKept() const { return rows_ <= kMaxKeptRows; }

}  // namespace engram
