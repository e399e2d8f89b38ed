#include "memstore/cluster/heard_stores.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/scheme.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// A host name has 255 bytes at most, and a port and a scheme stand beside it.
constexpr size_t kMaxAddressBytes = 300;
constexpr size_t kSetIdDigits = 64;

std::string RangeText(const RowRange& range) {
  return absl::StrCat("[", range.first, ", ", range.first + range.rows, ")");
}

absl::Status CheckRanges(const HeldLayer& held) {
  if (held.table_rows == 0 || held.table_rows > kMaxLayerRows) {
    return absl::InvalidArgumentError(
        absl::StrCat("a table of ", held.table_rows, " rows: 1 to ", kMaxLayerRows));
  }
  uint64_t end = 0;
  for (size_t i = 0; i < held.ranges.size(); ++i) {
    const RowRange& range = held.ranges[i];
    if (range.rows == 0 || range.first >= held.table_rows ||
        range.rows > held.table_rows - range.first) {
      return absl::InvalidArgumentError(absl::StrCat("range ", i, " has ", range.rows,
                                                     " rows from row ", range.first,
                                                     ", and the table has ", held.table_rows));
    }
    if (i > 0 && range.first <= end) {
      const RowRange& before = held.ranges[i - 1];
      const char* const how = range.first == end                         ? " touches "
                              : range.first + range.rows <= before.first ? " stands behind "
                                                                         : " overlaps ";
      return absl::InvalidArgumentError(
          absl::StrCat("range ", RangeText(range), how, RangeText(before)));
    }
    end = range.first + range.rows;
  }
  return absl::OkStatus();
}

absl::Status CheckSet(const HeldSet& set) {
  if (set.set_id.size() != kSetIdDigits || !LooksLikeAnId(set.set_id)) {
    return absl::InvalidArgumentError(absl::StrCat("set id \"", QuoteForMessage(set.set_id),
                                                   "\" is not 64 lower-case hexadecimal digits"));
  }
  ENGRAM_RETURN_IF_ERROR(CheckPlainName(set.name, "a set's name"));
  if (set.layers.empty() || set.layers.size() > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("set ", set.set_id, " has ", set.layers.size(), " layers: 1 to ", kMaxLayers));
  }
  for (size_t i = 0; i < set.layers.size(); ++i) {
    const HeldTableLayer& layer = set.layers[i];
    if (i > 0 && layer.layer <= set.layers[i - 1].layer) {
      return absl::InvalidArgumentError(absl::StrCat("set ", set.set_id, ": layer ", layer.layer,
                                                     " stands behind layer ",
                                                     set.layers[i - 1].layer));
    }
    if (const absl::Status status = CheckRanges(layer.rows); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("set ", set.set_id, ": layer ", layer.layer, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStore(const StoreState& store) {
  ENGRAM_RETURN_IF_ERROR(CheckPlainName(store.instance_id, "the instance id"));
  if (!store.zone.empty()) ENGRAM_RETURN_IF_ERROR(CheckPlainName(store.zone, "the zone"));
  if (store.address.empty() || store.address.size() > kMaxAddressBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an address of ", store.address.size(), " bytes: 1 to ", kMaxAddressBytes));
  }
  if (store.sets.size() > kMaxHeldSets || store.transports.size() > kMaxTransports) {
    return absl::InvalidArgumentError(absl::StrCat(store.sets.size(), " sets and ",
                                                   store.transports.size(), " transports: at most ",
                                                   kMaxHeldSets, " and ", kMaxTransports));
  }
  for (size_t i = 0; i < store.sets.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(CheckSet(store.sets[i]));
    for (size_t j = 0; j < i; ++j) {
      if (store.sets[i].set_id == store.sets[j].set_id) {
        return absl::InvalidArgumentError(
            absl::StrCat("set ", store.sets[i].set_id, " is listed twice"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

HeardStores SiftStores(absl::Span<const StoreState> heard) {
  HeardStores sifted;
  std::map<absl::string_view, size_t> by_address;
  for (size_t i = 0; i < heard.size(); ++i) by_address[heard[i].address] = i;
  // Ascending by address: the first one of an instance is the one to keep.
  std::map<absl::string_view, std::pair<absl::string_view, size_t>> by_instance;
  for (const auto& [address, i] : by_address) {
    if (heard[i].role != StoreRole::kStore) continue;
    if (absl::Status status = CheckStore(heard[i]); !status.ok()) {
      sifted.refused.push_back({std::string(address), absl::InvalidArgumentError(absl::StrCat(
                                                          "store ", QuoteForMessage(address),
                                                          " is left out: ", status.message()))});
      continue;
    }
    const auto [found, is_new] = by_instance.try_emplace(heard[i].instance_id, address, i);
    if (!is_new) found->second.second = std::max(found->second.second, i);
  }
  for (const auto& [instance, place] : by_instance) {
    sifted.stores.push_back({&heard[place.second], place.first});
  }
  std::sort(sifted.stores.begin(), sifted.stores.end(),
            [](const auto& a, const auto& b) { return a.address < b.address; });
  return sifted;
}

absl::Status LeftOut(absl::string_view address, const absl::Status& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("store ", QuoteForMessage(address), " is left out: ", why.message()));
}

}  // namespace engram
