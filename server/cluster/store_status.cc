#include "server/cluster/store_status.h"

#include <algorithm>
#include <utility>

#include "proto/wire/features.h"
#include "server/cluster/instance_id.h"

namespace engram {
namespace {

void DescribeLayer(const LoadedLayer& layer, const HeldLayer& held, v1::HeldTable* table) {
  table->set_layer(layer.layer);
  table->set_table_rows(held.table_rows);
  table->set_nothing(held.ranges.empty());
  const bool is_whole = held.ranges.size() == 1 && held.ranges.front().first == 0 &&
                        held.ranges.front().rows == held.table_rows;
  if (is_whole) return;
  for (const RowRange& range : held.ranges) {
    v1::HeldRows* const rows = table->add_ranges();
    rows->set_first(range.first);
    rows->set_rows(range.rows);
  }
}

void DescribeRows(const TableSet& set, v1::HeldTableSet* message) {
  const std::vector<HeldLayer>& held = set.row_source().held();
  for (size_t i = 0; i < held.size(); ++i) {
    DescribeLayer(set.layers()[i], held[i], message->add_layers());
  }
}

}  // namespace

StoreStatus::StoreStatus(Options options, const TableSetRegistry* registry,
                         const Generations* generations, const LifeCycle* life)
    : options_(std::move(options)),
      registry_(registry),
      generations_(generations),
      life_(life),
      instance_id_(MakeInstanceId()) {}

void StoreStatus::SetAdminAddress(const std::string& address) {
  MutexLock lock(mutex_);
  admin_address_ = address;
}

StoreStatus::Version StoreStatus::version() const {
  return {.sets = registry_->version(),
          .generations = generations_->version(),
          .draining = life_->state() >= LifeState::kDraining};
}

v1::HoldingsResponse StoreStatus::Make(MayHaveSet may_have) const {
  const bool draining = version().draining;
  v1::HoldingsResponse message;
  message.set_instance_id(instance_id_);
  message.set_role(v1::STORE_ROLE_STORE);
  message.set_zone(options_.zone);
  for (const std::string& transport : options_.transports) message.add_transports(transport);
  for (const absl::string_view feature : wire::kKnownFeatures) {
    message.add_features(feature.data(), feature.size());
  }
  message.set_load(std::clamp(options_.load(), 0.0, 1.0));
  {
    MutexLock lock(mutex_);
    message.set_admin_address(admin_address_);
  }
  for (const RegisteredSet& registered : registry_->States()) {
    const TableSet& set = *registered.served.set;
    if (!may_have(set.name()).ok()) continue;
    v1::HeldTableSet* const one = message.add_sets();
    one->set_name(set.name());
    one->set_id(set.id());
    one->set_generation(generations_->Of(set.id()).value_or(0));
    one->set_state(draining               ? v1::HOLDING_STATE_DRAINING
                   : registered.current() ? v1::HOLDING_STATE_SERVING
                                          : v1::HOLDING_STATE_SUPERSEDED);
    DescribeRows(set, one);
  }
  return message;
}

}  // namespace engram
