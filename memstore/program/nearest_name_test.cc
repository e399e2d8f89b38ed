#include "memstore/program/nearest_name.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(EditDistance, CountsLetters) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("pack", ""), 4u);
  EXPECT_EQ(EditDistance("pack", "pakc"), 1u);  // two that changed places
  EXPECT_EQ(EditDistance("pack", "peck"), 1u);
  EXPECT_EQ(EditDistance("verify", "verfy"), 1u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
}

TEST(NearestName, IsOneThatWasMeant) {
  const std::vector<std::string> names = {"pack", "verify", "inspect", "lookup", "--batch-tokens"};
  EXPECT_EQ(NearestName("pakc", names), "pack");
  EXPECT_EQ(NearestName("verfiy", names), "verify");
  EXPECT_EQ(NearestName("insp", names), "inspect");
  EXPECT_EQ(NearestName("look-up", names), "lookup");
  EXPECT_EQ(NearestName("--batchtokens", names), "--batch-tokens");
  for (const std::string& word : {std::string("bogus"), std::string(), std::string(1000, 'p')}) {
    EXPECT_EQ(NearestName(word, names), "") << word;
  }
  EXPECT_EQ(NearestName("pack", {}), "");
}

}  // namespace
}  // namespace engram
