#include "client/cluster/holdings_message.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/status_macros.h"
#include "memstore/cluster/heard_stores.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// More than a cluster has stores.
constexpr int kMaxUpstream = 4096;

std::optional<HoldingState> StateOf(v1::HoldingState state) {
  switch (state) {
    case v1::HOLDING_STATE_STAGED:
      return HoldingState::kStaged;
    case v1::HOLDING_STATE_SERVING:
      return HoldingState::kServing;
    case v1::HOLDING_STATE_SUPERSEDED:
      return HoldingState::kSuperseded;
    case v1::HOLDING_STATE_DRAINING:
      return HoldingState::kDraining;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<HeldTableLayer> LayerOf(const v1::HeldTable& message) {
  HeldTableLayer layer{.layer = message.layer(),
                       .rows = {.table_rows = message.table_rows(), .ranges = {}}};
  if (message.nothing() && message.ranges_size() > 0) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", message.layer(),
                                                   " is not held, and has ", message.ranges_size(),
                                                   " ranges that are"));
  }
  for (const v1::HeldRows& range : message.ranges()) {
    layer.rows.ranges.push_back({.first = range.first(), .rows = range.rows()});
  }
  if (!message.nothing() && message.ranges_size() == 0) {
    layer.rows.ranges.push_back({.first = 0, .rows = message.table_rows()});
  }
  return layer;
}

absl::Status FillSets(const v1::HoldingsResponse& message, StoreState* store) {
  for (const v1::HeldTableSet& one : message.sets()) {
    const std::optional<HoldingState> state = StateOf(one.state());
    if (!state) continue;
    HeldSet& set = store->sets.emplace_back(HeldSet{.name = one.name(),
                                                    .set_id = one.id(),
                                                    .generation = one.generation(),
                                                    .state = *state,
                                                    .layers = {}});
    for (const v1::HeldTable& table : one.layers()) {
      ENGRAM_ASSIGN_OR_RETURN(HeldTableLayer layer, LayerOf(table));
      set.layers.push_back(std::move(layer));
    }
  }
  return absl::OkStatus();
}

// Of a gateway: a chain that comes back to it would ask itself without an end.
absl::Status CheckUpstream(const v1::HoldingsResponse& message) {
  if (message.upstream_size() > 0 && message.role() != v1::STORE_ROLE_GATEWAY) {
    return absl::InvalidArgumentError(
        absl::StrCat("it fetches rows from ", message.upstream_size(),
                     " others and does not say that it is a gateway"));
  }
  if (message.upstream_size() > kMaxUpstream) {
    return absl::InvalidArgumentError(absl::StrCat("a gateway that fetches from ",
                                                   message.upstream_size(), " others: at most ",
                                                   kMaxUpstream));
  }
  std::set<absl::string_view> seen = {message.instance_id()};
  for (const std::string& instance : message.upstream()) {
    ENGRAM_RETURN_IF_ERROR(CheckPlainName(instance, "an instance id of its chain"));
    if (seen.insert(instance).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(instance == message.instance_id() ? "it is a gateway that fetches from itself"
                                                       : "its chain comes back to ",
                     instance == message.instance_id() ? "" : instance,
                     ": have each gateway fetch from stores"));
  }
  return absl::OkStatus();
}

absl::Status Fill(const v1::HoldingsResponse& message, StoreState* store) {
  store->instance_id = message.instance_id();
  store->zone = message.zone();
  for (const std::string& transport : message.transports()) {
    ENGRAM_RETURN_IF_ERROR(CheckPlainName(transport, "a transport's name"));
    store->transports.push_back(transport);
  }
  // What does not fit is nothing that this client knows.
  for (const std::string& feature : message.features()) {
    if (store->features.size() == wire::kMostFeatures) break;
    if (feature.size() <= wire::kMostFeatureBytes) store->features.push_back(feature);
  }
  if (!(message.load() >= 0 && message.load() <= 1)) {  // nor is what is no number
    return absl::InvalidArgumentError(absl::StrCat("a load of ", message.load(), ": 0 to 1"));
  }
  store->load = message.load();
  if (message.role() != v1::STORE_ROLE_STORE && message.role() != v1::STORE_ROLE_GATEWAY) {
    return absl::InvalidArgumentError(absl::StrCat("role ", static_cast<int>(message.role()),
                                                   " is not known: update this client"));
  }
  ENGRAM_RETURN_IF_ERROR(CheckUpstream(message));
  return FillSets(message, store);
}

}  // namespace

absl::StatusOr<StoreState> ReadHoldings(const v1::HoldingsResponse& message,
                                        const std::string& address) {
  StoreState store;
  store.address = address;
  if (const absl::Status status = Fill(message, &store); !status.ok()) {
    return LeftOut(address, status);
  }
  // As a store, whatever it is: gateways are passed over there.
  const HeardStores sifted = SiftStores({&store, 1});
  if (!sifted.refused.empty()) return sifted.refused.front().why;
  if (message.role() == v1::STORE_ROLE_GATEWAY) store.role = StoreRole::kGateway;
  return store;
}

}  // namespace engram
