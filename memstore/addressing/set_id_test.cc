#include "memstore/addressing/set_id.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

const std::string kId = "0123456789abcdef" + std::string(48, '7');

TEST(ShortSetIdTest, IsTheIdsBeginning) {
  const ShortSetId id = ShortSetId::Of(kId);
  EXPECT_EQ(id.bits(), 0x0123456789abcdefu);
  EXPECT_EQ(id.ToString(), "0123456789abcdef");
  EXPECT_FALSE(id.is_none());
  std::string other = kId;
  other[15] = 'e';
  EXPECT_FALSE(ShortSetId::Of(other) == id);
  EXPECT_EQ(sizeof(ShortSetId), 8u);
}

TEST(ShortSetIdTest, IsNoneWhereThereIsNoId) {
  for (const std::string& none : {std::string(), kId.substr(1), kId + "0", std::string(64, 'g'),
                                  std::string(64, 'A'), std::string("wordy set name")}) {
    EXPECT_TRUE(ShortSetId::Of(none).is_none()) << none;
  }
  EXPECT_EQ(ShortSetId().ToString(), "none");
  EXPECT_EQ(ShortSetId::Of(std::string(64, 'g')), ShortSetId());
}

TEST(SetIdTest, IsNamedByTwelveOfItsFirstDigitsOrMore) {
  for (const std::string& right : {kId, kId.substr(0, 12), kId.substr(0, 13), kId.substr(0, 63)}) {
    EXPECT_TRUE(LooksLikeAnId(right)) << right;
    EXPECT_TRUE(IsIdOrItsBeginning(right, kId)) << right;
  }
  for (const std::string& wrong :
       {std::string(), kId.substr(0, 11), kId + "7", std::string("0123456789ABCDEF")}) {
    EXPECT_FALSE(LooksLikeAnId(wrong)) << wrong;
    EXPECT_FALSE(IsIdOrItsBeginning(wrong, kId)) << wrong;
  }
  EXPECT_TRUE(LooksLikeTooFewDigits(kId.substr(0, 11)));
  for (const std::string& other : {std::string(), kId.substr(0, 12), std::string("e14g")}) {
    EXPECT_FALSE(LooksLikeTooFewDigits(other)) << other;
  }
  EXPECT_TRUE(LooksLikeAnId(kId.substr(1)));
  EXPECT_FALSE(IsIdOrItsBeginning(kId.substr(1), kId));
}

TEST(ShortSetIdTest, AnotherSetIsNamedWithBothIds) {
  const ShortSetId one = ShortSetId::Of(kId), other = ShortSetId::Of(std::string(64, 'c'));
  EXPECT_TRUE(CheckSameSet("the plan", one, one, "plan again").ok());
  const absl::Status status = CheckSameSet("the plan", one, other, "plan again");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "the plan is of table set 0123456789abcdef... and was used with table set "
            "cccccccccccccccc...: plan again");
  EXPECT_THAT(std::string(CheckSameSet("it", one, ShortSetId(), "x").message()),
              HasSubstr("used with no table set"));
}

}  // namespace
}  // namespace engram
