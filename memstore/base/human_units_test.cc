#include "memstore/base/human_units.h"

#include <limits>

#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(HumanUnitsTest, SizesHaveTheUnitThatFits) {
  EXPECT_EQ(HumanBytes(0), "0 bytes");
  EXPECT_EQ(HumanBytes(1), "1 byte");
  EXPECT_EQ(HumanBytes(1023), "1023 bytes");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(HumanBytes(kGiB * 189), "189.0 GiB");
  EXPECT_EQ(HumanBytes(std::numeric_limits<uint64_t>::max()), "16.0 EiB");
}

TEST(HumanUnitsTest, ExactSizesAreSaidTwiceWhereTheirUnitIsAnother) {
  EXPECT_EQ(ExactBytes(1), "1 byte");
  EXPECT_EQ(ExactBytes(1023), "1023 bytes");
  EXPECT_EQ(ExactBytes(1024), "1024 bytes (1.0 KiB)");
  EXPECT_EQ(ExactBytes(29360128), "29360128 bytes (28.0 MiB)");
  EXPECT_EQ(ExactBytes(202'758'032'400), "202758032400 bytes (188.8 GiB)");
}

TEST(HumanUnitsTest, APartIsInTheUnitOfTheWhole) {
  EXPECT_EQ(HumanBytesOf(kGiB * 412 / 10, kGiB * 189), "41.2 of 189.0 GiB");
  EXPECT_EQ(HumanBytesOf(5, kGiB), "0.0 of 1.0 GiB");
  EXPECT_EQ(HumanBytesOf(50, 100), "50 of 100 bytes");
}

TEST(HumanUnitsTest, TimesAreRoundedUp) {
  EXPECT_EQ(HumanTime(-absl::Seconds(1)), "0 s");
  EXPECT_EQ(HumanTime(absl::ZeroDuration()), "0 s");
  EXPECT_EQ(HumanTime(absl::Milliseconds(1)), "1 s");
  EXPECT_EQ(HumanTime(absl::Seconds(89)), "89 s");
  EXPECT_EQ(HumanTime(absl::Seconds(90)), "2 min");
  EXPECT_EQ(HumanTime(absl::Seconds(121)), "3 min");
  EXPECT_EQ(HumanTime(absl::Minutes(89)), "89 min");
  EXPECT_EQ(HumanTime(absl::Minutes(90)), "1 h 30 min");
  EXPECT_EQ(HumanTime(absl::Hours(47)), "47 h 0 min");
  EXPECT_EQ(HumanTime(absl::Hours(76)), "3 d 4 h");
  EXPECT_EQ(HumanTime(absl::InfiniteDuration()), "for ever");
}

TEST(HumanUnitsTest, OneThingIsNotSeveral) {
  EXPECT_EQ(Counted(0, "turn"), "0 turns");
  EXPECT_EQ(Counted(1, "turn"), "1 turn");
  EXPECT_EQ(Counted(2, "turn"), "2 turns");
  EXPECT_EQ(Counted(1, "batch", "batches"), "1 batch");
  EXPECT_EQ(Counted(3, "batch", "batches"), "3 batches");
}

}  // namespace
}  // namespace engram
