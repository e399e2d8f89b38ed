#include "memstore/cache/hot_cache_index.h"

#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace engram {
namespace {

std::vector<RowId> Group(uint64_t number, uint32_t heads) {
  std::vector<RowId> ids(heads);
  for (uint32_t h = 0; h < heads; ++h) ids[h] = number * 7919 % 1000003 + h * 1000003;
  return ids;
}

TEST(HotCacheIndex, FindsWhatWasAdmittedAndNothingElse) {
  HotCacheIndex index = HotCacheIndex::Create(64, 4).value();
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> kept;  // as far as nothing took their place
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const uint32_t layer = random() % 2;
    const uint64_t number = random() % 8 == 0 ? random() : random() % 100;
    const std::vector<RowId> ids = Group(number, 4);
    const uint32_t found = index.Find(layer, ids);
    const auto at = kept.find({layer, number});
    ASSERT_EQ(found, at == kept.end() ? HotCacheIndex::kMiss : at->second);
    if (found != HotCacheIndex::kMiss) continue;
    const uint32_t place = index.Admit(layer, ids);
    if (place == HotCacheIndex::kMiss) continue;
    ASSERT_LT(place, index.places());
    std::erase_if(kept, [place](const auto& one) { return one.second == place; });
    kept[{layer, number}] = place;
  }
  EXPECT_GT(kept.size(), 32u);
}

TEST(HotCacheIndex, AllRowIdsCountNotOnlyThoseThatAreHashed) {
  HotCacheIndex index = HotCacheIndex::Create(8, 4).value();
  const std::vector<RowId> one = {1, 2, 3, 4}, other = {1, 9, 3, 4};
  index.Find(0, one);
  const uint32_t place = index.Admit(0, one);
  EXPECT_EQ(index.Find(0, one), place);
  EXPECT_EQ(index.Find(0, other), HotCacheIndex::kMiss);
  EXPECT_EQ(index.Find(1, one), HotCacheIndex::kMiss);
  EXPECT_EQ(index.Admit(0, one), place);  // twice in one batch
}

TEST(HotCacheIndex, GroupsOfFewerRowIdsAreNoPartOfLongerOnes) {
  HotCacheIndex index = HotCacheIndex::Create(8, 4).value();
  // Of the same hash, which is of a group's first and last id: {1, 2} and {1, 2, 3, 2}, {1} and {1,
  // 2, 1}.
  const std::vector<RowId> groups[] = {{1, 2, 3, 2}, {1, 2}, {1, 2, 1}, {1}, {1, 2, 3}, {3}};
  uint32_t places[6];
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 6; ++i) {
      const uint32_t found = index.Find(0, groups[i]);
      EXPECT_EQ(found, round == 0 ? HotCacheIndex::kMiss : places[i]) << i;
      if (round == 0) places[i] = index.Admit(0, groups[i]);
    }
  }
  EXPECT_EQ(std::set<uint32_t>(places, places + 6).size(), 6u);
}

TEST(HotCacheIndex, WhatIsSeenOftenStaysAndWhatIsSeenOncePassesBy) {
  HotCacheIndex index = HotCacheIndex::Create(1024, 2).value();
  const auto see = [&](uint64_t number) {
    const std::vector<RowId> ids = Group(number, 2);
    const bool hit = index.Find(0, ids) != HotCacheIndex::kMiss;
    if (!hit) index.Admit(0, ids);
    return hit;
  };
  for (int round = 0; round < 8; ++round) {
    for (uint64_t hot = 0; hot < 512; ++hot) see(hot);
  }
  // A flood of what comes once.
  for (uint64_t once = 0; once < 5000; ++once) see(1'000'000 + once);
  int hits = 0;
  for (uint64_t hot = 0; hot < 512; ++hot) hits += see(hot);
  EXPECT_GT(hits, 460);
}

TEST(HotCacheIndex, WhatWasHotOnceMakesRoom) {
  HotCacheIndex index = HotCacheIndex::Create(256, 2).value();
  const auto hits = [&](uint64_t first) {
    int count = 0;
    for (uint64_t i = 0; i < 200; ++i) {
      const std::vector<RowId> ids = Group(first + i, 2);
      if (index.Find(0, ids) != HotCacheIndex::kMiss) {
        ++count;
      } else {
        index.Admit(0, ids);
      }
    }
    return count;
  };
  for (int round = 0; round < 50; ++round) hits(0);
  int last = 0;
  for (int round = 0; round < 100; ++round) last = hits(500'000);
  EXPECT_GT(last, 150);
}

TEST(HotCacheIndex, RefusesWhatIsNoCache) {
  EXPECT_FALSE(HotCacheIndex::Create(7, 8).ok());
  EXPECT_FALSE(HotCacheIndex::Create(8, 0).ok());
  EXPECT_FALSE(HotCacheIndex::Create(uint64_t{1} << 40, 8).ok());
}

}  // namespace
}  // namespace engram
