#include "memstore/pack/gguf/gguf_scheme.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/gguf/testing/small_gguf.h"
#include "memstore/recipe/gguf_keys.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_gguf::Int32s;
using testing_gguf::Key;
using testing_gguf::Uint32;
using testing_gguf::Uint32s;

constexpr char kV41[] = "deepseek-v4.1-flash";

class GgufSchemeTest : public testing::Test {
 protected:
  GgufSchemeTest() : path_(fs::path(testing::TempDir()) / "gguf_scheme_test.gguf") {
    options_.output = path_.string() + ".set";
    options_.rows_per_head = 50;
    options_.token_map_file = "tests/golden/deepseek_v41_token_map.i32";
  }
  ~GgufSchemeTest() override { fs::remove(path_); }

  absl::StatusOr<GgufScheme> Read(const std::vector<Key>& keys) {
    testing_gguf::Write(path_, {.keys = keys, .tensors = {}});
    const GgufModel model = GgufModel::Open(path_, IsGgufRecipeKey).value();
    return ReadGgufScheme(**FindFamily(kV41), model, options_);
  }
  std::vector<int32_t> ImageTokenIds(const std::vector<Key>& keys) {
    const absl::StatusOr<GgufScheme> scheme = Read(keys);
    EXPECT_TRUE(scheme.ok()) << scheme.status();
    return scheme.ok() ? scheme->image_token_ids : std::vector<int32_t>{-1};
  }

  fs::path path_;
  PackOptions options_;
};

TEST_F(GgufSchemeTest, ImageTokenIdsAreTheFilesElseThoseOfTheFamilysModel) {
  const Key heads = Uint32("deepseek41.engram.head_count", 8);
  EXPECT_THAT(ImageTokenIds({}), ElementsAre(129264));
  EXPECT_THAT(ImageTokenIds({heads}), ElementsAre(129264));
  EXPECT_THAT(ImageTokenIds({heads, Uint32s("deepseek41.engram.image_token_ids", {8, 7})}),
              ElementsAre(7, 8));
  EXPECT_THAT(ImageTokenIds({Uint32("deepseek41.engram_image_token_id", 130000)}),
              ElementsAre(130000));
  // Another model than the family's has other ids, or none.
  const Key other = Uint32("deepseek41.engram.key_length", 128);
  EXPECT_THAT(ImageTokenIds({heads, other}), IsEmpty());
  EXPECT_THAT(ImageTokenIds({heads, other, Uint32("deepseek41.image_token_id", 9)}),
              ElementsAre(9));
}

TEST_F(GgufSchemeTest, APadIsComparedAsWhatItsKeySaysThatItIs) {
  options_.token_map_file.clear();
  // Of this tokenizer the token 2 is compressed to 1.
  const Key map = Int32s("deepseek41.engram.token_map", {0, 1, 1});
  const auto read = [&](const std::string& key, uint32_t pad) {
    return Read({map, Uint32("deepseek41.engram." + key, pad)}).status();
  };
  using Pads = std::vector<std::pair<std::string, uint32_t>>;
  for (const auto& [key, pad] : Pads{{"pad_id", 1}, {"pad_id", 2}, {"pad_id_compressed", 1}}) {
    EXPECT_TRUE(read(key, pad).ok()) << read(key, pad);
  }
  for (const auto& [key, pad] : Pads{{"pad_id", 0}, {"pad_id_compressed", 2}}) {
    const absl::Status status = read(key, pad);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat(key, " is ", pad, ", expected 1")));
  }
  // Both names, each with its own value.
  const absl::Status both = Read({map, Uint32("deepseek41.engram.pad_id", 2),
                                  Uint32("deepseek41.engram.pad_id_compressed", 1)})
                                .status();
  EXPECT_TRUE(both.ok()) << both;
}

}  // namespace
}  // namespace engram
