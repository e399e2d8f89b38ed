// engram token-map, as a person calls it.

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/cli/support/command.h"
#include "client/cli/support/command_test_base.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/tokenizer/testing/small_tokenizer.h"

namespace engram::cli {
namespace {

using ::testing::HasSubstr;
using testing_tokenizer::SmallTokenizer;

class TokenMapCommandTest : public CommandTest {
 protected:
  TokenMapCommandTest() : CommandTest({AddTokenMapCommand}) {}

  int Make(const std::string& tokenizer, const std::string& output) {
    return Run({"token-map", "--tokenizer", tokenizer, "--output", output});
  }
};

TEST_F(TokenMapCommandTest, WritesTheMapOfEachKind) {
  for (const SmallTokenizer& tokenizer :
       {testing_tokenizer::ByteLevelTokenizer(), testing_tokenizer::ByteFallbackTokenizer(),
        testing_tokenizer::UnigramTokenizer()}) {
    ASSERT_EQ(Make(Write("tokenizer.json", tokenizer.Text()), Path("map")), kDone) << said_;
    const std::string bytes = ReadAll(Path("map"));
    std::vector<int32_t> map(bytes.size() / sizeof(int32_t));
    std::memcpy(map.data(), bytes.data(), map.size() * sizeof(int32_t));
    EXPECT_EQ(bytes.size(), tokenizer.map.size() * sizeof(int32_t));
    EXPECT_EQ(map, tokenizer.map);
    EXPECT_THAT(said_, HasSubstr(std::to_string(map.size()) + " token ids"));
    EXPECT_EQ(said_.find("known as"), std::string::npos);
  }
}

TEST_F(TokenMapCommandTest, SaysWhatItMadeInJson) {
  const std::string tokenizer =
      Write("tokenizer.json", testing_tokenizer::UnigramTokenizer().Text());
  ASSERT_EQ(Run({"token-map", "--json", "--tokenizer", tokenizer, "--output", Path("map")}), kDone)
      << said_;
  const nlohmann::json made = nlohmann::json::parse(printed_);
  EXPECT_EQ(made["token_ids"].get<size_t>() * sizeof(int32_t), ReadAll(Path("map")).size());
  EXPECT_EQ(made["sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(made["known_as"], nlohmann::json::array());
  EXPECT_EQ(said_, "");
  // Two things would go to one place.
  EXPECT_EQ(Run({"token-map", "--json", "--tokenizer", tokenizer, "--output", "-"}), kBadUsage);
}

TEST_F(TokenMapCommandTest, NeverWritesOverTheTokenizer) {
  const std::string text = testing_tokenizer::UnigramTokenizer().Text();
  const std::string tokenizer = Write("tokenizer.json", text);
  EXPECT_EQ(Make(tokenizer, tokenizer), kBadUsage);
  EXPECT_THAT(said_, HasSubstr("--tokenizer"));
  EXPECT_EQ(ReadAll(tokenizer), text);
}

TEST_F(TokenMapCommandTest, FailuresNameTheFileAndLeaveTheOutputAsItWas) {
  Write("map", "as it was");
  EXPECT_EQ(Make(Path("none.json"), Path("map")), kFailed);
  EXPECT_THAT(said_, HasSubstr("none.json"));
  EXPECT_EQ(Make(Path(""), Path("map")), kFailed);
  const std::string ctc =
      Write("ctc.json", R"({"decoder": {"type": "CTC"}, "model": {"vocab": {"a": 0}}})");
  EXPECT_EQ(Make(ctc, Path("map")), kFailed);
  EXPECT_THAT(said_, HasSubstr("ctc.json"));
  EXPECT_THAT(said_, HasSubstr("CTC"));
  EXPECT_EQ(ReadAll(Path("map")), "as it was");
  EXPECT_EQ(Run({"token-map", "--tokenizer", ctc}), kBadUsage);
  EXPECT_EQ(Run({"token-map", "--output", Path("map")}), kBadUsage);
}

}  // namespace
}  // namespace engram::cli
