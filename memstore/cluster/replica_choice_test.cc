#include "memstore/cluster/replica_choice.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

std::vector<Replica> Replicas(uint32_t count) {
  std::vector<Replica> replicas;
  for (uint32_t i = 1; i <= count; ++i) {
    replicas.push_back({.store = i, .hash = HashOfInstance(absl::StrCat("store", i))});
  }
  return replicas;
}

std::set<uint32_t> Kept(const ReplicaChoice& choice) {
  std::set<uint32_t> kept;
  for (const Replica& replica : choice.kept()) kept.insert(replica.store);
  return kept;
}

constexpr auto kAny = [](uint32_t) { return true; };
constexpr auto kIdle = [](uint32_t) { return uint64_t{0}; };

TEST(ReplicaChoiceTest, KeepsThreeWhateverTheOrder) {
  std::vector<Replica> replicas = Replicas(10);
  ReplicaChoice choice(1);
  choice.Keep(replicas);
  const std::set<uint32_t> kept = Kept(choice);
  EXPECT_EQ(kept.size(), ReplicaChoice::kKept);
  std::reverse(replicas.begin(), replicas.end());
  choice.Keep(replicas);
  EXPECT_EQ(Kept(choice), kept);
  // One is ejected: the two others stay, and a third comes.
  std::erase_if(replicas, [&](const Replica& r) { return r.store == *kept.begin(); });
  choice.Keep(replicas);
  std::set<uint32_t> both = Kept(choice);
  EXPECT_EQ(both.size(), ReplicaChoice::kKept);
  both.insert(kept.begin(), kept.end());
  EXPECT_EQ(both.size(), ReplicaChoice::kKept + 1);
  choice.Keep({});
  std::mt19937_64 random(1);
  EXPECT_FALSE(choice.Choose(random, kAny, kIdle).has_value());
}

TEST(ReplicaChoiceTest, ClientsSpreadOverTheReplicas) {
  std::map<uint32_t, int> clients;
  for (uint64_t client = 0; client < 3000; ++client) {
    ReplicaChoice choice(HashOfInstance(absl::StrCat("client", client)));
    choice.Keep(Replicas(9));
    for (const uint32_t store : Kept(choice)) ++clients[store];
  }
  ASSERT_EQ(clients.size(), 9);
  for (const auto& [store, count] : clients) {
    EXPECT_GT(count, 850) << store;
    EXPECT_LT(count, 1150) << store;
  }
}

TEST(ReplicaChoiceTest, TakesTheOneWithFewerBytes) {
  ReplicaChoice choice(1);
  choice.Keep(Replicas(3));
  std::mt19937_64 random(1);
  std::map<uint32_t, int> chosen;
  for (int i = 0; i < 3000; ++i) {
    ++chosen[*choice.Choose(random, kAny, [](uint32_t store) { return uint64_t{store}; })];
  }
  // The most loaded of three is never the better of two, the least loaded one is of two draws in
  // three.
  EXPECT_EQ(chosen[3], 0);
  EXPECT_NEAR(chosen[1], 2000, 100);
  chosen.clear();
  for (int i = 0; i < 3000; ++i) ++chosen[*choice.Choose(random, kAny, kIdle)];
  for (uint32_t store = 1; store <= 3; ++store) EXPECT_NEAR(chosen[store], 1000, 100);
}

TEST(ReplicaChoiceTest, TheSameZoneComesFirstAndDrainingLast) {
  std::vector<Replica> replicas = Replicas(6);
  replicas[1].same_zone = true;
  replicas[4].same_zone = true;
  replicas[4].draining = true;
  ReplicaChoice choice(1);
  choice.Keep(replicas);
  EXPECT_TRUE(Kept(choice).contains(2));
  EXPECT_FALSE(Kept(choice).contains(5));
  std::mt19937_64 random(1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(choice.Choose(random, kAny, kIdle), 2);
  const auto other = choice.Choose(
      random, [](uint32_t store) { return store != 2; }, kIdle);
  ASSERT_TRUE(other.has_value());
  EXPECT_NE(*other, 2);
}

}  // namespace
}  // namespace engram
