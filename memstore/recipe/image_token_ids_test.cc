#include "memstore/recipe/image_token_ids.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ImageTokenIdsTest : public testing::Test {
 protected:
  ImageTokenIdsTest() : directory_(fs::path(testing::TempDir()) / "image_token_ids_test") {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  absl::StatusOr<std::vector<int32_t>> Read(const std::string& config) {
    std::ofstream(directory_ / "config.json") << config;
    return ReadImageTokenIds(directory_);
  }
  const fs::path directory_;
};

TEST_F(ImageTokenIdsTest, AreNoneWithoutFileOrKey) {
  EXPECT_THAT(ReadImageTokenIds(directory_).value(), IsEmpty());
  EXPECT_THAT(Read("{\"vocab_size\": 5}").value(), IsEmpty());
}

TEST_F(ImageTokenIdsTest, AreReadUnderEveryKnownName) {
  for (const std::string key :
       {"image_token_id", "image_token_index", "imageTokenId", "video_token_id",
        "audio_token_index", "media_placeholder_token_id", "img_context_token_id",
        "image_pad_token_id", "im_patch_id", "ple_image_token_id", "engram_image_token_id",
        "vision_token_id", "image_token_ids"}) {
    EXPECT_THAT(Read(absl::StrCat("{\"", key, "\": 7}")).value(), ElementsAre(7)) << key;
    EXPECT_THAT(Read(absl::StrCat("{\"text_config\": {\"", key, "\": [9, 7]}}")).value(),
                ElementsAre(7, 9))
        << key;
  }
}

TEST_F(ImageTokenIdsTest, AreNotTheTokensAroundAnImage) {
  for (const std::string key :
       {"image_start_token_id", "vision_end_token_id", "boi_token_index", "image_newline_token_id",
        "pad_token_id", "eos_token_id", "image_size", "num_image_tokens", "image_seq_length",
        "video_begin_token_id", "token_id", "image_id"}) {
    EXPECT_THAT(Read(absl::StrCat("{\"", key, "\": 7}")).value(), IsEmpty()) << key;
  }
}

TEST_F(ImageTokenIdsTest, CountOnceWhereverTheyStandButInOtherModels) {
  EXPECT_THAT(Read("{\"image_token_id\": 9, \"video_token_id\": 3, \"text_config\": "
                   "{\"image_token_id\": 9, \"ple\": {\"image_token_id\": 4}}, "
                   "\"vision_config\": {\"image_token_id\": 1}, "
                   "\"mtp_config\": {\"image_token_id\": 2}}")
                  .value(),
              ElementsAre(3, 4, 9));
}

TEST_F(ImageTokenIdsTest, AreNothingThatNoTokenHas) {
  EXPECT_THAT(Read("{\"image_token_index\": -200, \"video_token_id\": null, "
                   "\"media_token_id\": 6.0}")
                  .value(),
              ElementsAre(6));
}

// Left out, such a token would pass for text.
TEST_F(ImageTokenIdsTest, AreRefusedByNameWhereNobodyKnowsWhichTokenIsMeant) {
  for (const std::string value :
       {"\"129264\"", "2147483648", "18446744073709551615", "1.5", "true", "{}", "[7, \"8\"]"}) {
    const absl::Status status =
        Read(absl::StrCat("{\"text_config\": {\"image_token_id\": ", value, "}}")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr("text_config.image_token_id")) << value;
  }
}

TEST_F(ImageTokenIdsTest, AreRefusedWhereTheFileIsNoConfiguration) {
  EXPECT_EQ(Read("{").status().code(), absl::StatusCode::kFailedPrecondition);
  std::string many = "{\"image_token_ids\": [0";
  for (size_t i = 1; i <= kMaxConfigImageTokens; ++i) absl::StrAppend(&many, ", ", i);
  const absl::Status status = Read(many + "]}").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("65 token ids of images"));
}

}  // namespace
}  // namespace engram
