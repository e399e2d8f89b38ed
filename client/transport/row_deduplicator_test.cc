#include "client/transport/row_deduplicator.h"

#include <algorithm>
#include <map>
#include <random>
#include <thread>

#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"

namespace engram {
namespace {

using Ids = std::vector<RowId>;

struct Result {
  std::vector<RowId> distinct;
  std::vector<uint32_t> places;
  std::vector<RowCopy> copies;
};

bool Distinct(RowDeduplicator& deduplicator, const Ids& ids, Result* out) {
  return deduplicator.Distinct(ids, &out->distinct, &out->places, &out->copies);
}

// `count` ids of `values` values, spread over all of 64 bits or crowded.
Ids AnyIds(size_t count, uint64_t values, uint32_t seed) {
  std::mt19937_64 random(seed);
  const uint64_t factors[] = {1, 1 << 20, 0x9E3779B97F4A7C15, uint64_t{1} << 54};
  const uint64_t factor = factors[seed % 4];
  Ids ids(count);
  for (RowId& id : ids) id = random() % values * factor;
  return ids;
}

Ids AllDifferent(size_t count) {
  Ids ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = i * 7;
  return ids;
}
Ids AllTheSame(size_t count) { return Ids(count, 5); }

// What the header promises of ids, distinct, places and copies.
void ExpectExact(const Ids& ids, const Result& result) {
  ASSERT_EQ(result.distinct.size(), result.places.size());
  ASSERT_EQ(result.places.size() + result.copies.size(), ids.size());
  EXPECT_TRUE(std::is_sorted(result.places.begin(), result.places.end()));
  // As a transport does it: fetch, then copy in order.
  Ids rebuilt(ids.size(), ~RowId{0});
  std::vector<bool> written(ids.size(), false);
  for (size_t k = 0; k < result.places.size(); ++k) {
    ASSERT_LT(result.places[k], ids.size());
    rebuilt[result.places[k]] = result.distinct[k];
    written[result.places[k]] = true;
  }
  uint32_t last = 0;
  for (const RowCopy& copy : result.copies) {
    ASSERT_LT(copy.from, copy.to);
    ASSERT_LT(copy.to, ids.size());
    ASSERT_GT(copy.to, last);
    ASSERT_TRUE(written[copy.from]);
    ASSERT_FALSE(written[copy.to]);
    rebuilt[copy.to] = rebuilt[copy.from];
    written[copy.to] = true;
    last = copy.to;
  }
  EXPECT_EQ(rebuilt, ids);
  Ids sorted = result.distinct;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
}

void ExpectNothing(const Result& result) {
  EXPECT_TRUE(result.distinct.empty());
  EXPECT_TRUE(result.places.empty());
  EXPECT_TRUE(result.copies.empty());
}

TEST(RowDeduplicator, IsExactForAnyIds) {
  RowDeduplicator deduplicator;
  Result result;
  int done = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const size_t count = RowDeduplicator::kMinRows + seed * 37 % 5000;
    const uint64_t values = uint64_t{1} << (seed % 14);
    const Ids ids = AnyIds(count, values, seed);
    // A deduplicator of its own looks at its first batch.
    RowDeduplicator fresh;
    if (Distinct(fresh, ids, &result)) {
      ++done;
      ExpectExact(ids, result);
    } else {
      ExpectNothing(result);
    }
    // One that has seen others, larger and smaller, says the same.
    std::vector<uint32_t> inverse;
    Ids distinct;
    deduplicator.DistinctInverse(ids, &distinct, &inverse);
    ASSERT_EQ(inverse.size(), ids.size());
    for (size_t i = 0; i < ids.size(); ++i) ASSERT_EQ(distinct[inverse[i]], ids[i]);
    const std::map<RowId, int> once = [&] {
      std::map<RowId, int> all;
      for (const RowId id : ids) all[id] = 1;
      return all;
    }();
    ASSERT_EQ(distinct.size(), once.size());
    if (HasFailure()) FAIL() << "seed " << seed;
  }
  EXPECT_GT(done, 200);
}

TEST(RowDeduplicator, TheFirstPlaceOfAnIdCounts) {
  RowDeduplicator deduplicator;
  Ids ids = AllTheSame(RowDeduplicator::kMinRows);
  ids[3] = 9;
  ids[700] = 9;
  Result result;
  ASSERT_TRUE(Distinct(deduplicator, ids, &result));
  EXPECT_EQ(result.distinct, (Ids{5, 9}));
  EXPECT_EQ(result.places, (std::vector<uint32_t>{0, 3}));
  EXPECT_EQ(result.copies.size(), RowDeduplicator::kMinRows - 2);
  EXPECT_EQ(result.copies[0], (RowCopy{0, 1}));
  EXPECT_EQ(std::count(result.copies.begin(), result.copies.end(), RowCopy{3, 700}), 1);
}

TEST(RowDeduplicator, TheInverseIsAlwaysDone) {
  RowDeduplicator deduplicator;
  Ids distinct = {1, 2, 3};
  std::vector<uint32_t> inverse = {4};
  deduplicator.DistinctInverse({}, &distinct, &inverse);
  EXPECT_TRUE(distinct.empty());
  EXPECT_TRUE(inverse.empty());
  deduplicator.DistinctInverse(Ids{8, 0, 8, ~RowId{0}, 0}, &distinct, &inverse);
  EXPECT_EQ(distinct, (Ids{8, 0, ~RowId{0}}));
  EXPECT_EQ(inverse, (std::vector<uint32_t>{0, 1, 0, 2, 1}));
}

TEST(RowDeduplicator, SmallBatchesAreLeftAlone) {
  RowDeduplicator deduplicator;
  Result result;
  EXPECT_FALSE(Distinct(deduplicator, {}, &result));
  EXPECT_FALSE(Distinct(deduplicator, AllTheSame(RowDeduplicator::kMinRows - 1), &result));
  ExpectNothing(result);
  EXPECT_TRUE(Distinct(deduplicator, AllTheSame(RowDeduplicator::kMinRows), &result));
  ExpectExact(AllTheSame(RowDeduplicator::kMinRows), result);
  // What the last batch left is gone.
  EXPECT_FALSE(Distinct(deduplicator, AllTheSame(RowDeduplicator::kMinRows - 1), &result));
  ExpectNothing(result);
}

TEST(RowDeduplicator, StopsLookingWhereNothingRepeatsAndTriesAgain) {
  RowDeduplicator deduplicator;
  Result result;
  const Ids repeating = AllTheSame(2 * RowDeduplicator::kMinRows),
            different = AllDifferent(2 * RowDeduplicator::kMinRows);
  ASSERT_TRUE(Distinct(deduplicator, repeating, &result));
  for (int tries = 0; tries < 3; ++tries) {
    ASSERT_FALSE(Distinct(deduplicator, different, &result));
    ExpectNothing(result);
    // Now even repeats are let through, until its next try.
    for (uint32_t i = 1; i < RowDeduplicator::kTryEvery; ++i) {
      result = {.distinct = {1}, .places = {0}, .copies = {{0, 1}}};
      ASSERT_FALSE(Distinct(deduplicator, repeating, &result)) << i;
      ExpectNothing(result);
    }
  }
  ASSERT_TRUE(Distinct(deduplicator, repeating, &result));
  ExpectExact(repeating, result);
  // And looks at every one again.
  ASSERT_TRUE(Distinct(deduplicator, repeating, &result));
  ExpectExact(repeating, result);
}

TEST(RowDeduplicator, AnEmptyPlanIsLeftWhereTooFewRepeat) {
  RowDeduplicator deduplicator;
  const size_t count = 2 * RowDeduplicator::kMinRows;
  Ids ids = AllDifferent(count);
  const size_t enough = count / RowDeduplicator::kMinRepeatShare;
  for (size_t i = 1; i < enough; ++i) ids[i] = ids[0];  // one short of it
  Result result;
  EXPECT_FALSE(Distinct(deduplicator, ids, &result));
  ExpectNothing(result);
  ids[enough] = ids[0];
  RowDeduplicator another;
  EXPECT_TRUE(Distinct(another, ids, &result));
  ExpectExact(ids, result);
}

TEST(RowDeduplicator, AWarmOneAllocatesNothing) {
  RowDeduplicator deduplicator;
  Result result;
  std::vector<uint32_t> inverse;
  const Ids repeating = AnyIds(6000, 500, 1), different = AllDifferent(6000);
  ASSERT_TRUE(Distinct(deduplicator, repeating, &result));
  deduplicator.DistinctInverse(different, &result.distinct, &inverse);
  ASSERT_FALSE(Distinct(deduplicator, different, &result));
  // The copies' place is what the most of them took.
  for (uint32_t i = 0; i < RowDeduplicator::kTryEvery; ++i)
    (void)Distinct(deduplicator, repeating, &result);
  const uint64_t before = testing::Allocations();
  for (int i = 0; i < 200; ++i) {
    (void)Distinct(deduplicator, i % 3 == 0 ? different : repeating, &result);
    deduplicator.DistinctInverse(i % 2 == 0 ? different : repeating, &result.distinct, &inverse);
  }
  EXPECT_EQ(testing::Allocations(), before);
}

TEST(RowDeduplicator, ThreadsShareOne) {
  RowDeduplicator deduplicator;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&deduplicator, t] {
      Result result;
      std::vector<uint32_t> inverse;
      for (uint32_t i = 0; i < 50; ++i) {
        const Ids ids = AnyIds(1024 + 100 * t + i, 300, t * 1000 + i);
        if (Distinct(deduplicator, ids, &result)) ExpectExact(ids, result);
        deduplicator.DistinctInverse(ids, &result.distinct, &inverse);
        for (size_t k = 0; k < ids.size(); ++k) ASSERT_EQ(result.distinct[inverse[k]], ids[k]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace engram
