#include "server/lookup/places.h"

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

using Answer = Places::Answer;

constexpr absl::Duration kIdle = absl::Seconds(5);

MonotonicTime At(int64_t seconds) { return MonotonicTime() + absl::Seconds(1000 + seconds); }

// Places, and who has them.
class PlacesTest : public ::testing::Test {
 protected:
  struct Holder {
    Places::Place place;
    bool gave_way = false;
  };
  // Null where it gets none; answer_ says why.
  Holder* Take(uint64_t connection, int64_t seconds = 0) {
    auto holder = std::make_unique<Holder>();
    Holder* const one = holder.get();
    answer_ = places_.Take(
        connection, At(seconds), [one] { one->gave_way = true; }, &one->place);
    if (answer_ != Answer::kTaken) return nullptr;
    holders_.push_back(std::move(holder));
    return one;
  }
  int TakeAll(uint64_t connection) {
    int taken = 0;
    while (Take(connection) != nullptr) ++taken;
    return taken;
  }
  int GaveWay() const {
    int gave_way = 0;
    for (const auto& holder : holders_) gave_way += holder->gave_way;
    return gave_way;
  }

  Places places_{16, kIdle};
  Answer answer_ = Answer::kTaken;
  std::deque<std::unique_ptr<Holder>> holders_;
};

TEST_F(PlacesTest, AConnectionHoldsAsManyAsItLeaves) {
  EXPECT_EQ(TakeAll(1), 8);
  EXPECT_EQ(answer_, Answer::kShare);
  EXPECT_EQ(TakeAll(2), 4);
  EXPECT_EQ(TakeAll(3), 2);
  // And whoever comes next finds one.
  EXPECT_NE(Take(4), nullptr);
  EXPECT_EQ(places_.taken(), 15u);
  EXPECT_EQ(GaveWay(), 0);
}

TEST_F(PlacesTest, APlaceThatWasLeftIsFree) {
  {
    Places::Place place;
    ASSERT_EQ(places_.Take(
                  1, At(0), [] { FAIL(); }, &place),
              Answer::kTaken);
    EXPECT_EQ(places_.taken(), 1u);
    place.Leave();
    EXPECT_EQ(places_.taken(), 0u);
    place.Leave();
    ASSERT_EQ(places_.Take(
                  1, At(0), [] { FAIL(); }, &place),
              Answer::kTaken);
  }
  EXPECT_EQ(places_.taken(), 0u);
}

TEST_F(PlacesTest, TheConnectionThatHoldsMostGivesWayToTheNext) {
  Holder* const first = Take(1, 0);
  std::vector<Holder*> most;
  for (int i = 0; i < 3; ++i) most.push_back(Take(2, 1 + i));
  for (uint64_t connection = 3; connection < 15; ++connection)
    ASSERT_NE(Take(connection, 10), nullptr);
  ASSERT_EQ(places_.taken(), 16u);
  // Its oldest first; an older one of a connection that holds one stays.
  ASSERT_NE(Take(100, 20), nullptr);
  EXPECT_TRUE(most[0]->gave_way);
  ASSERT_NE(Take(101, 20), nullptr);
  EXPECT_TRUE(most[1]->gave_way);
  EXPECT_FALSE(first->gave_way);
  // Where all hold one the oldest goes.
  ASSERT_NE(Take(102, 20), nullptr);
  EXPECT_TRUE(first->gave_way);
  EXPECT_FALSE(most[2]->gave_way);
  EXPECT_EQ(places_.taken(), 16u);
}

TEST_F(PlacesTest, OneThatServedStaysWhileThereIsOneThatDidNot) {
  Holder* const served = Take(1, 0);
  served->place.Served(At(1));
  Holder* const silent = Take(2, 100);
  for (uint64_t connection = 3; connection < 17; ++connection) {
    Take(connection, 50)->place.Served(At(99));
  }
  // However long ago that was.
  ASSERT_NE(Take(100, 1000), nullptr);
  EXPECT_TRUE(silent->gave_way);
  EXPECT_FALSE(served->gave_way);
  holders_.back()->place.Served(At(1000));
  // None is left: the one that was idle for longest.
  ASSERT_NE(Take(101, 1000), nullptr);
  EXPECT_TRUE(served->gave_way);
  EXPECT_EQ(GaveWay(), 2);
}

TEST_F(PlacesTest, OneThatServedJustNowStaysAndSoDoesOneThatWaitsForTheServer) {
  for (uint64_t connection = 1; connection <= 15; ++connection) {
    Take(connection)->place.Served(At(96));
  }
  Holder* const waits = Take(16);
  waits->place.WaitsForClient(false);
  EXPECT_EQ(Take(100, 100), nullptr);
  EXPECT_EQ(answer_, Answer::kFull);
  EXPECT_EQ(GaveWay(), 0);
  ASSERT_NE(Take(100, 101), nullptr);
  EXPECT_EQ(GaveWay(), 1);
  EXPECT_FALSE(waits->gave_way);
  waits->place.WaitsForClient(true);
  ASSERT_NE(Take(101, 101), nullptr);
  EXPECT_TRUE(waits->gave_way);
}

// Else who came early would keep what others must do without.
TEST_F(PlacesTest, OfTwoThatWantMoreTheOneWithLessGetsIt) {
  EXPECT_EQ(TakeAll(1), 8);
  for (uint64_t connection = 2; connection < 10; ++connection) ASSERT_NE(Take(connection), nullptr);
  ASSERT_EQ(places_.taken(), 16u);
  EXPECT_EQ(Take(1), nullptr);
  EXPECT_EQ(answer_, Answer::kShare);
  ASSERT_NE(Take(2), nullptr);
  EXPECT_EQ(GaveWay(), 1);
  EXPECT_TRUE(holders_.front()->gave_way);
}

TEST_F(PlacesTest, OneThatGaveWayCountsNoMoreAndIsNotAskedAgain) {
  Holder* const only = Take(1);
  EXPECT_TRUE(places_.EndOne(At(1), false));
  EXPECT_TRUE(only->gave_way);
  EXPECT_EQ(places_.taken(), 0u);
  EXPECT_FALSE(places_.EndOne(At(1), false));
  only->place.Leave();
  EXPECT_EQ(places_.taken(), 0u);
  EXPECT_EQ(TakeAll(1), 8);
}

TEST_F(PlacesTest, OneThatServedGoesForMemoryWhereThereIsNoOtherWay) {
  Holder* const served = Take(1);
  served->place.Served(At(1));
  EXPECT_FALSE(places_.EndOne(At(100), /*even_served=*/false));
  EXPECT_FALSE(places_.EndOne(At(2), /*even_served=*/true));
  EXPECT_TRUE(places_.EndOne(At(100), /*even_served=*/true));
  EXPECT_TRUE(served->gave_way);
}

TEST(Places, AreSharedByThreads) {
  Places places(64, kIdle);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&places, t] {
      for (int round = 0; round < 2000; ++round) {
        Places::Place held[3];
        for (Places::Place& place : held) {
          if (places.Take(
                  10 * t + round % 3, At(round), [] {}, &place) != Answer::kTaken)
            continue;
          place.WaitsForClient(round % 2 == 0);
          if (round % 5 == 0) place.Served(At(round));
        }
        if (round % 7 == 0) places.EndOne(At(round + 10), round % 2 == 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(places.taken(), 0u);
}

}  // namespace
}  // namespace engram
