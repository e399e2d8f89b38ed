#include "server/table_sets/generations.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kA(64, 'a'), kB(64, 'b');

TEST(Generations, AStartIsZeroAndAPublicationOneMore) {
  Generations generations({});
  EXPECT_EQ(generations.Of(kA), std::nullopt);
  generations.Start("x", kA);
  EXPECT_EQ(generations.Of(kA), 0u);
  EXPECT_EQ(*generations.Next("x", kB, std::nullopt), 1u);
  EXPECT_EQ(generations.Of(kB), std::nullopt);  // it was only asked
  generations.Publish("x", kB, 1);
  EXPECT_EQ(generations.Of(kB), 1u);
  EXPECT_EQ(*generations.Next("x", kB, std::nullopt), 1u);  // again
  // Going back is a publication like any other.
  EXPECT_EQ(*generations.Next("x", kA, std::nullopt), 2u);
  EXPECT_EQ(*generations.Next("y", kA, std::nullopt), 1u);
}

TEST(Generations, WhatIsKeptGoesOn) {
  Generations generations({{"x", kA, "/a", 7}, {"taken", "", "", 3}});
  generations.Start("x", kA);
  generations.Start("taken", kB);
  EXPECT_EQ(generations.Of(kA), 7u);
  EXPECT_EQ(generations.Of(kB), 0u);
  EXPECT_EQ(*generations.Next("x", kB, std::nullopt), 8u);
  EXPECT_EQ(*generations.Next("taken", kB, std::nullopt), 4u);
  // A set of the flags in place of what was kept.
  generations.Start("x", kB);
  EXPECT_EQ(generations.Of(kB), 0u);
}

TEST(Generations, OneThatIsAskedForIsAboveAllOthers) {
  Generations generations({});
  EXPECT_EQ(*generations.Next("x", kA, 40), 40u);
  generations.Publish("x", kA, 40);
  EXPECT_EQ(*generations.Next("x", kA, 40), 40u);  // the same set: nothing new
  EXPECT_EQ(*generations.Next("x", kA, 41), 41u);
  EXPECT_EQ(*generations.Next("x", kB, std::nullopt), 41u);
  const absl::Status same = generations.Next("x", kB, 40).status();
  EXPECT_EQ(same.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(same.message()),
              AllOf(HasSubstr("generation 40 already, as table set " + kA), HasSubstr("give 41")));
  const absl::Status lower = generations.Next("x", kB, 39).status();
  EXPECT_EQ(lower.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(lower.message()), HasSubstr("39 is lower"));
  EXPECT_EQ(generations.Next("x", kA, 39).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Generations, ANameThatWasTakenGivesNoNumberTwice) {
  Generations generations({});
  generations.Publish("x", kA, 5);
  generations.Take("x");
  generations.Take("nobody");
  EXPECT_EQ(generations.Of(kA), 5u);  // it is still here
  EXPECT_EQ(*generations.Next("x", kA, std::nullopt), 6u);
  EXPECT_EQ(generations.Next("x", kB, 5).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Generations, NumbersHaveBounds) {
  Generations generations({{"x", kA, "/a", kMostGeneration}});
  EXPECT_EQ(generations.Next("y", kA, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(generations.Next("y", kA, kMostGeneration + 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*generations.Next("x", kA, std::nullopt), kMostGeneration);
  EXPECT_EQ(generations.Next("x", kB, std::nullopt).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(Generations, TheVersionSaysThatANumberMayHaveChanged) {
  Generations generations({});
  uint64_t before = generations.version();
  const auto changed = [&] { return std::exchange(before, generations.version()) != before; };
  generations.Start("x", kA);
  EXPECT_TRUE(changed());
  EXPECT_TRUE(generations.Next("x", kA, 9).ok());
  EXPECT_FALSE(changed());
  generations.Publish("x", kA, 9);
  EXPECT_TRUE(changed());
}

}  // namespace
}  // namespace engram
