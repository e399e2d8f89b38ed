#include "client/cluster/holdings_message.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/heard_stores.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const std::string kId(64, 'a'), kOther(64, 'b');
constexpr char kAddress[] = "store-1:7300";

v1::HeldTableSet* AddSet(v1::HoldingsResponse& message, const std::string& id) {
  v1::HeldTableSet* const set = message.add_sets();
  set->set_name("x");
  set->set_id(id);
  set->set_generation(7);
  set->set_state(v1::HOLDING_STATE_SERVING);
  return set;
}

v1::HeldTable* AddLayer(v1::HeldTableSet* set, uint32_t layer) {
  v1::HeldTable* const table = set->add_layers();
  table->set_layer(layer);
  table->set_table_rows(5000);
  return table;
}

void AddRange(v1::HeldTable* table, uint64_t first, uint64_t rows) {
  v1::HeldRows* const range = table->add_ranges();
  range->set_first(first);
  range->set_rows(rows);
}

// Whole layer 1, a part of layer 14, nothing of layer 20.
v1::HoldingsResponse Good() {
  v1::HoldingsResponse message;
  message.set_instance_id("0123");
  message.set_zone("rack-7");
  message.add_transports("grpc");
  message.set_load(0.5);
  v1::HeldTableSet* const set = AddSet(message, kId);
  AddLayer(set, 1);
  v1::HeldTable* const part = AddLayer(set, 14);
  AddRange(part, 0, 10);
  AddRange(part, 4000, 1000);
  AddLayer(set, 20)->set_nothing(true);
  return message;
}

TEST(ReadHoldings, AStoreIsAsItSays) {
  const auto store = ReadHoldings(Good(), kAddress);
  ASSERT_TRUE(store.ok()) << store.status();
  const StoreState expected{.instance_id = "0123",
                            .address = kAddress,
                            .role = StoreRole::kStore,
                            .zone = "rack-7",
                            .transports = {"grpc"},
                            .load = 0.5,
                            .sets = {{.name = "x",
                                      .set_id = kId,
                                      .generation = 7,
                                      .state = HoldingState::kServing,
                                      .layers = {{1, {5000, {{0, 5000}}}},
                                                 {14, {5000, {{0, 10}, {4000, 1000}}}},
                                                 {20, {5000, {}}}}}}};
  EXPECT_TRUE(*store == expected);
}

TEST(ReadHoldings, FeaturesAreTakenAsFarAsTheyFit) {
  v1::HoldingsResponse message = Good();
  message.add_features("token_windows");
  message.add_features(std::string(100'000, 'x'));
  message.add_features("another");
  EXPECT_THAT(ReadHoldings(message, kAddress)->features, ElementsAre("token_windows", "another"));
  for (int i = 0; i < 1000; ++i) message.add_features("more");
  EXPECT_THAT(ReadHoldings(message, kAddress)->features, SizeIs(64));
}

TEST(ReadHoldings, StatesAreTakenAndUnknownOnesLeftOut) {
  v1::HoldingsResponse message;
  message.set_instance_id("0123");
  for (int i = 0; i <= 5; ++i) {
    v1::HeldTableSet* const set = AddSet(message, absl::StrCat(std::string(63, 'a'), i));
    AddLayer(set, 1);
    set->set_state(static_cast<v1::HoldingState>(i));
  }
  const auto store = ReadHoldings(message, kAddress);
  ASSERT_TRUE(store.ok()) << store.status();
  std::vector<HoldingState> states;
  for (const HeldSet& set : store->sets) states.push_back(set.state);
  EXPECT_THAT(states, ElementsAre(HoldingState::kStaged, HoldingState::kServing,
                                  HoldingState::kSuperseded, HoldingState::kDraining));
}

TEST(ReadHoldings, AGatewayIsOneAndIsCheckedAsWell) {
  v1::HoldingsResponse message = Good();
  message.set_role(v1::STORE_ROLE_GATEWAY);
  EXPECT_EQ(ReadHoldings(message, kAddress)->role, StoreRole::kGateway);
  message.mutable_sets(0)->set_id("x");
  EXPECT_FALSE(ReadHoldings(message, kAddress).ok());
}

TEST(ReadHoldings, AChainThatComesBackIsRefused) {
  const auto error = [](v1::StoreRole role, const std::vector<std::string>& upstream) {
    v1::HoldingsResponse message = Good();
    message.set_role(role);
    for (const std::string& one : upstream) message.add_upstream(one);
    return std::string(ReadHoldings(message, kAddress).status().message());
  };
  const std::string own = Good().instance_id();
  EXPECT_EQ(error(v1::STORE_ROLE_GATEWAY, {"a", "b"}), "");
  EXPECT_THAT(error(v1::STORE_ROLE_GATEWAY, {"a", own}), HasSubstr("fetches from itself"));
  EXPECT_THAT(error(v1::STORE_ROLE_GATEWAY, {"a", "b", "a"}), HasSubstr("comes back to a"));
  EXPECT_THAT(error(v1::STORE_ROLE_GATEWAY, {"a b"}), HasSubstr("chain"));
  EXPECT_THAT(error(v1::STORE_ROLE_GATEWAY, std::vector<std::string>(5000, "a")),
              HasSubstr("at most"));
  EXPECT_THAT(error(v1::STORE_ROLE_STORE, {"a"}), HasSubstr("gateway"));
}

TEST(ReadHoldings, AStoreThatLiesIsNamed) {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  const auto part = [](v1::HoldingsResponse& message) {
    return message.mutable_sets(0)->mutable_layers(1);
  };
  const std::function<void(v1::HoldingsResponse&)> lies[] = {
      [](auto& message) { message.set_instance_id(""); },
      [](auto& message) { message.set_instance_id("\x1b[31m"); },
      [](auto& message) { message.set_zone("a zone"); },
      [](auto& message) { message.set_role(static_cast<v1::StoreRole>(7)); },
      [](auto& message) { message.set_load(-0.1); },
      [](auto& message) { message.set_load(1.1); },
      [](auto& message) { message.set_load(std::nan("")); },
      [](auto& message) { message.add_transports(std::string(1000, 'x')); },
      [](auto& message) {
        for (size_t i = 0; i < kMaxTransports; ++i) message.add_transports("x");
      },
      [](auto& message) { message.mutable_sets(0)->set_id(std::string(64, 'G')); },
      [](auto& message) { message.mutable_sets(0)->set_name("../x"); },
      [](auto& message) { message.mutable_sets(0)->clear_layers(); },
      [](auto& message) { AddLayer(message.mutable_sets(0), 20); },
      [](auto& message) { AddLayer(message.mutable_sets(0), 2); },
      [](auto& message) { *message.add_sets() = message.sets(0); },
      [](auto& message) {
        for (size_t i = 0; i < kMaxHeldSets; ++i) {
          AddLayer(AddSet(message, absl::StrCat(std::string(60, 'c'), 1000 + i)), 1);
        }
      },
      [&](auto& message) { part(message)->set_table_rows(0); },
      [&](auto& message) { part(message)->set_table_rows(kHuge); },
      [&](auto& message) { part(message)->set_nothing(true); },
      [&](auto& message) { AddRange(part(message), 5000, 1); },
      [&](auto& message) { AddRange(part(message), 4500, 100); },
      [&](auto& message) { part(message)->mutable_ranges(1)->set_rows(1001); },
      [&](auto& message) { part(message)->mutable_ranges(1)->set_rows(kHuge); },
      [&](auto& message) { part(message)->mutable_ranges(1)->set_first(kHuge); },
      [&](auto& message) { part(message)->mutable_ranges(1)->set_first(9); },
      [&](auto& message) { part(message)->mutable_ranges(1)->set_first(10); },
      [&](auto& message) { part(message)->mutable_ranges(0)->set_rows(0); },
  };
  size_t number = 0;
  for (const auto& lie : lies) {
    v1::HoldingsResponse message = Good();
    lie(message);
    const absl::Status status = ReadHoldings(message, kAddress).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << number << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(absl::StrCat("store ", kAddress, " is left out: ")),
                      ::testing::Not(HasSubstr("\x1b"))))
        << number;
    ++number;
  }
  EXPECT_THAT(ReadHoldings(Good(), kAddress)->sets, SizeIs(1));
}

}  // namespace
}  // namespace engram
