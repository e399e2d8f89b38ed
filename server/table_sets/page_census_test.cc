#include "server/table_sets/page_census.h"

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

class PageCensusTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(Directory("")); }
  static std::string Directory(const std::string& name) {
    return absl::StrCat(::testing::TempDir(), "/page_census/", name);
  }
  std::shared_ptr<const TableSet> Load(const std::string& name, size_t layers) {
    testing::SmallTableSet set{.name = name, .layers = {}};
    for (uint32_t layer = 1; layer <= layers; ++layer) set.layers.push_back({.layer = layer});
    EXPECT_TRUE(testing::WriteSmallTableSet(set, Directory(name)).ok());
    LoadOptions options;
    options.arena.try_hugetlb = false;
    auto loaded = TableSet::Load(Directory(name), options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }

  FakeClock clock_;
  int reads_ = 0;
  absl::Duration takes_ = absl::ZeroDuration();
  absl::Status fails_;
  // Range i has 2^i bytes on small pages, and each read adds 1000 on huge ones.
  PageCensus census_{
      &clock_,
      [this](absl::Span<const AddressRange> ranges) -> absl::StatusOr<std::vector<ResidentPages>> {
        ++reads_;
        clock_.Advance(takes_);
        if (!fails_.ok()) return fails_;
        std::vector<ResidentPages> pages;
        for (size_t i = 0; i < ranges.size(); ++i) {
          pages.push_back({.transparent_huge = 1000u * reads_, .small = uint64_t{1} << i});
        }
        return pages;
      }};
};

TEST_F(PageCensusTest, ASetHasTheSumOfItsLayers) {
  const auto one = Load("one", 1);
  const auto two = Load("two", 2);
  census_.Refresh({one, two});
  EXPECT_EQ(census_.Of(*one).small, 1u);
  EXPECT_EQ(census_.Of(*two).small, 2u + 4u);
  EXPECT_EQ(census_.Of(*two).transparent_huge, 2000u);
}

TEST_F(PageCensusTest, OneThatWasNotCountedIsAsItWasLoaded) {
  const auto one = Load("one", 1);
  EXPECT_EQ(census_.Of(*one).Total(), one->loaded_pages().Total());
  census_.Refresh({});
  EXPECT_EQ(census_.Of(*one).Total(), one->loaded_pages().Total());
}

TEST_F(PageCensusTest, ItIsKeptForASecond) {
  const auto one = Load("one", 1);
  census_.Refresh({one});
  clock_.Advance(absl::Milliseconds(999));
  census_.Refresh({one});
  EXPECT_EQ(reads_, 1);
  clock_.Advance(absl::Milliseconds(1));
  census_.Refresh({one});
  EXPECT_EQ(reads_, 2);
  EXPECT_EQ(census_.Of(*one).transparent_huge, 2000u);
}

TEST_F(PageCensusTest, OneThatTookLongIsKeptForAThousandTimesThat) {
  const auto one = Load("one", 1);
  takes_ = absl::Milliseconds(500);
  census_.Refresh({one});
  clock_.Advance(absl::Seconds(499));
  census_.Refresh({one});
  EXPECT_EQ(reads_, 1);
  clock_.Advance(absl::Seconds(1));
  census_.Refresh({one});
  EXPECT_EQ(reads_, 2);
}

TEST_F(PageCensusTest, WhatWasKnownStaysWhereTheKernelSaysNothing) {
  const auto one = Load("one", 1);
  census_.Refresh({one});
  fails_ = absl::UnavailableError("no /proc");
  clock_.Advance(absl::Seconds(2));
  census_.Refresh({one});
  EXPECT_EQ(reads_, 2);
  EXPECT_EQ(census_.Of(*one).transparent_huge, 1000u);
}

TEST_F(PageCensusTest, WhileOneCountsAnotherDoesNotWait) {
  const auto one = Load("one", 1);
  PageCensus* again = nullptr;
  int reads = 0;
  PageCensus census(
      &clock_,
      [&](absl::Span<const AddressRange> ranges) -> absl::StatusOr<std::vector<ResidentPages>> {
        ++reads;
        again->Refresh({one});
        return std::vector<ResidentPages>(ranges.size());
      });
  again = &census;
  census.Refresh({one});
  EXPECT_EQ(reads, 1);
}

}  // namespace
}  // namespace engram
