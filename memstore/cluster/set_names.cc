#include "memstore/cluster/set_names.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/cluster/heard_stores.h"

namespace engram {
namespace {

// All that is held of one set.
struct Publication {
  absl::string_view set_id;
  absl::string_view first_store;
  bool is_served = false;  // its name leads to it at some store
  struct Layer {
    uint64_t table_rows = 0;
    absl::string_view stated_by;
    std::vector<RowRange> ranges;  // of all stores, in any order
  };
  std::map<uint32_t, Layer> layers;
};

// Highest generation first.
using Publications = std::map<uint64_t, Publication, std::greater<>>;

absl::Status Add(const HeldSet& set, absl::string_view address, Publication* all) {
  const bool answers = set.state != HoldingState::kStaged;
  all->is_served |= set.state == HoldingState::kServing || set.state == HoldingState::kDraining;
  for (const HeldTableLayer& held : set.layers) {
    Publication::Layer& layer = all->layers[held.layer];
    if (layer.table_rows == 0) {
      layer.table_rows = held.rows.table_rows;
      layer.stated_by = address;
    } else if (layer.table_rows != held.rows.table_rows) {
      return absl::FailedPreconditionError(absl::StrCat(
          "layer ", held.layer, " of set ", set.set_id, " has ", layer.table_rows,
          " rows by store ", QuoteForMessage(layer.stated_by), " and ", held.rows.table_rows,
          " by store ", QuoteForMessage(address), ": one of them is no store of this set"));
    }
    if (answers) {
      layer.ranges.insert(layer.ranges.end(), held.rows.ranges.begin(), held.rows.ranges.end());
    }
  }
  return absl::OkStatus();
}

// The first rows that nobody holds, as words; empty when all are held.
std::string Missing(Publication* all) {
  for (auto& [number, layer] : all->layers) {
    std::sort(layer.ranges.begin(), layer.ranges.end(),
              [](const RowRange& a, const RowRange& b) { return a.first < b.first; });
    uint64_t end = 0, next = layer.table_rows;
    for (const RowRange& range : layer.ranges) {
      if (range.first > end) {
        next = range.first;
        break;
      }
      end = std::max(end, range.first + range.rows);
    }
    if (end < layer.table_rows) {
      return absl::StrCat("rows [", end, ", ", next, ") of layer ", number);
    }
  }
  return "";
}

absl::Status TwoIds(absl::string_view name, uint64_t generation, const Publication& one,
                    const HeldSet& other, absl::string_view address) {
  return absl::FailedPreconditionError(
      absl::StrCat("name ", QuoteForMessage(name), " has two sets at generation ", generation, ": ",
                   one.set_id, " at store ", QuoteForMessage(one.first_store), " and ",
                   other.set_id, " at store ", QuoteForMessage(address),
                   ": publish the right one with a higher generation, and retire both"));
}

}  // namespace

absl::StatusOr<NamedSet> ResolveName(absl::string_view name, absl::Span<const StoreState> heard) {
  const HeardStores sifted = SiftStores(heard);
  Publications publications;
  for (const HeardStores::Store& store : sifted.stores) {
    for (const HeldSet& set : store.state->sets) {
      if (set.name != name) continue;
      const auto [found, is_new] = publications.try_emplace(
          set.generation,
          Publication{.set_id = set.set_id, .first_store = store.address, .layers = {}});
      if (found->second.set_id != set.set_id) {
        return TwoIds(name, set.generation, found->second, set, store.address);
      }
      if (absl::Status s = Add(set, store.address, &found->second); !s.ok()) return s;
    }
  }
  std::string missing;
  for (auto& [generation, publication] : publications) {
    if (!publication.is_served) continue;
    const std::string lacks = Missing(&publication);
    if (lacks.empty()) return NamedSet{std::string(publication.set_id), generation};
    if (missing.empty()) {
      missing = absl::StrCat("set ", publication.set_id, " of generation ", generation,
                             " lacks a ready replica of ", lacks);
    }
  }
  if (!missing.empty()) {
    return absl::UnavailableError(
        absl::StrCat("no set of the name ", QuoteForMessage(name), " is complete: ", missing));
  }
  return absl::NotFoundError(absl::StrCat("none of ", sifted.stores.size(),
                                          " stores serves a set of the name ",
                                          QuoteForMessage(name)));
}

}  // namespace engram
