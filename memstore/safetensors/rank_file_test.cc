#include "memstore/safetensors/rank_file.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(RankFileTest, ReadsTheRankOfKnownExports) {
  const std::tuple<const char*, uint32_t, const char*> files[] = {
      {"model-rank-3-part-0.safetensors", 3, "model-rank-*-part-*.safetensors"},
      {"model-rank-3-part-12.safetensors", 3, "model-rank-*-part-*.safetensors"},
      {"model3-mp8.safetensors", 3, "model*-mp8.safetensors"},
      {"mp_rank_03.safetensors", 3, "mp_rank_*.safetensors"},
      {"rank10.safetensors", 10, "rank*.safetensors"},
      {"model-tp0.safetensors", 0, "model-tp*.safetensors"},
      {"consolidated.07.safetensors", 7, "consolidated.*.safetensors"},
  };
  for (const auto& [name, rank, group] : files) {
    const std::optional<RankFile> file = ParseRankFile(name);
    ASSERT_TRUE(file.has_value()) << name;
    EXPECT_EQ(file->rank, rank) << name;
    EXPECT_EQ(file->group, group) << name;
  }
}

TEST(RankFileTest, TakesNoOtherNumberForARank) {
  for (const char* name :
       {"model-00001-of-00048.safetensors", "model.safetensors", "a-old.safetensors",
        "frank3.safetensors", "rank.safetensors", "rank-x.safetensors", "model-mp8.safetensors",
        "rank99999999999.safetensors", "http3.safetensors",
        "consolidated-00001-of-00002.safetensors", ""}) {
    EXPECT_FALSE(ParseRankFile(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace engram
