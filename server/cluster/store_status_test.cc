#include "server/cluster/store_status.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/deferred_rows.h"
#include "memstore/store/testing/small_table_set.h"
#include "server/cluster/instance_id.h"

namespace engram {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

class StoreStatusTest : public ::testing::Test {
 protected:
  // The id of a set of two layers of which the source holds `held`; nothing: all.
  std::string Serve(const std::string& name, uint64_t rows, std::vector<HeldLayer> held = {}) {
    const std::string directory = absl::StrCat(::testing::TempDir(), "/store_status_", name, rows);
    EXPECT_TRUE(
        testing::WriteSmallTableSet({.name = name,
                                     .layers = {{.layer = 1, .row_bytes = 264, .rows = rows},
                                                {.layer = 14, .row_bytes = 264, .rows = rows}}},
                                    directory)
            .ok());
    LoadOptions options;
    if (!held.empty()) {
      options.make_row_source = [this, held](std::vector<GatherTable> tables) {
        return deferred_.MakeSource(std::move(tables), held);
      };
    }
    auto set = TableSet::Load(directory, options);
    EXPECT_TRUE(set.ok()) << set.status();
    const std::string id = (*set)->id();
    EXPECT_TRUE(registry_.Publish(*std::move(set)).ok());
    return id;
  }
  v1::HoldingsResponse Make() const { return status_.Make(&EverySet); }

  FakeClock clock_;
  testing::Deferred deferred_;
  TableSetRegistry registry_{clock_};
  Generations generations_{{}};
  LifeCycle life_;
  double load_ = 0.5;
  StoreStatus status_{
      {.zone = "rack-7", .transports = {"grpc", "rdma"}, .load = [this] { return load_; }},
      &registry_,
      &generations_,
      &life_};
};

TEST_F(StoreStatusTest, SaysWhoItIs) {
  const v1::HoldingsResponse message = Make();
  EXPECT_THAT(message.instance_id(), MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(message.instance_id(), status_.instance_id());
  EXPECT_NE(MakeInstanceId(), MakeInstanceId());
  EXPECT_EQ(message.role(), v1::STORE_ROLE_STORE);
  EXPECT_EQ(message.zone(), "rack-7");
  EXPECT_THAT(message.transports(), ElementsAre("grpc", "rdma"));
  EXPECT_THAT(message.features(), Contains("token_windows"));
  EXPECT_EQ(message.load(), 0.5);
  EXPECT_EQ(message.admin_address(), "");
  EXPECT_THAT(message.sets(), SizeIs(0));
  load_ = 7;
  EXPECT_EQ(Make().load(), 1);
  status_.SetAdminAddress("127.0.0.1:7301");
  EXPECT_EQ(Make().admin_address(), "127.0.0.1:7301");
}

TEST_F(StoreStatusTest, SaysWhichRowsItHolds) {
  Serve("whole", 5000);
  Serve("part", 5000, {{5000, {{0, 10}, {4000, 1000}}}, {5000, {}}});
  const v1::HoldingsResponse message = Make();
  ASSERT_THAT(message.sets(), SizeIs(2));
  const auto& whole = message.sets(0).layers();
  ASSERT_THAT(whole, SizeIs(2));
  EXPECT_EQ(whole[0].layer(), 1u);
  EXPECT_EQ(whole[1].layer(), 14u);
  for (const v1::HeldTable& table : whole) {
    EXPECT_EQ(table.table_rows(), 5000u);
    EXPECT_THAT(table.ranges(), SizeIs(0));
    EXPECT_FALSE(table.nothing());
  }
  const auto& part = message.sets(1).layers();
  ASSERT_THAT(part, SizeIs(2));
  ASSERT_THAT(part[0].ranges(), SizeIs(2));
  EXPECT_EQ(part[0].ranges(1).first(), 4000u);
  EXPECT_EQ(part[0].ranges(1).rows(), 1000u);
  EXPECT_FALSE(part[0].nothing());
  EXPECT_EQ(part[1].table_rows(), 5000u);
  EXPECT_TRUE(part[1].nothing());
}

TEST_F(StoreStatusTest, SaysTheStateAndGenerationOfSets) {
  const std::string old = Serve("x", 5000);
  generations_.Start("x", old);
  const std::string now = Serve("x", 6000);
  generations_.Publish("x", now, 4);
  v1::HoldingsResponse message = Make();
  ASSERT_THAT(message.sets(), SizeIs(2));
  EXPECT_EQ(message.sets(0).id(), old);
  EXPECT_EQ(message.sets(0).state(), v1::HOLDING_STATE_SUPERSEDED);
  EXPECT_EQ(message.sets(0).generation(), 0u);
  EXPECT_EQ(message.sets(1).name(), "x");
  EXPECT_EQ(message.sets(1).state(), v1::HOLDING_STATE_SERVING);
  EXPECT_EQ(message.sets(1).generation(), 4u);
  life_.Advance(LifeState::kDraining);
  message = Make();
  for (const auto& set : message.sets()) EXPECT_EQ(set.state(), v1::HOLDING_STATE_DRAINING);
  ASSERT_TRUE(registry_.Fence(now).ok());
  EXPECT_THAT(Make().sets(), SizeIs(1));
}

TEST_F(StoreStatusTest, IsSilentOfSetsThatMayNotBeHad) {
  Serve("secret", 5000);
  const std::string id = Serve("public", 5000);
  const v1::HoldingsResponse message = status_.Make([](absl::string_view name) {
    return name == "secret" ? absl::PermissionDeniedError("") : absl::OkStatus();
  });
  ASSERT_THAT(message.sets(), SizeIs(1));
  EXPECT_EQ(message.sets(0).id(), id);
}

TEST_F(StoreStatusTest, TheVersionSaysThatSomethingMayHaveChanged) {
  StoreStatus::Version before = status_.version();
  const auto changed = [&] {
    const StoreStatus::Version last = std::exchange(before, status_.version());
    return !(last == before);
  };
  const std::string id = Serve("x", 5000);
  EXPECT_TRUE(changed());
  generations_.Publish("x", id, 9);
  EXPECT_TRUE(changed());
  load_ = 0.75;
  EXPECT_FALSE(changed());
  ASSERT_TRUE(registry_.Supersede(id).ok());
  EXPECT_TRUE(changed());
  life_.Advance(LifeState::kServing);
  EXPECT_FALSE(changed());
  life_.Advance(LifeState::kDraining);
  EXPECT_TRUE(changed());
}

}  // namespace
}  // namespace engram
