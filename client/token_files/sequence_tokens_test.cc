#include "client/token_files/sequence_tokens.h"

#include "client/token_files/testing/file_test.h"
#include "gmock/gmock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SequenceTokensTest : public FileTest {
 protected:
  auto Read(const std::string& file) { return ReadSequenceTokens(Write("tokens", file)); }
  std::string Refusal(const std::string& file) {
    const absl::Status status = Read(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path("tokens")));
    return std::string(status.message());
  }
};

TEST_F(SequenceTokensTest, EveryForm) {
  for (const std::string& file :
       {std::string("3 0 2147483647\n"), std::string("3\r\n0\r\n2147483647\r\n"),
        std::string("3,0,2147483647"), std::string(" [3, 0, 2147483647]\n"),
        Raw(std::vector<int32_t>{3, 0, 2147483647}),
        Npy("<i4", std::vector<int32_t>{3, 0, 2147483647}),
        Npy("<i8", std::vector<int64_t>{3, 0, 2147483647})}) {
    const auto tokens = Read(file);
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    EXPECT_THAT(*tokens, ElementsAre(3u, 0u, 2147483647u));
  }
  EXPECT_THAT(Read("").value(), ElementsAre());
  // Which are the same sequences.
  EXPECT_THAT(Read(Raw(std::vector<int64_t>{3, 4, 5})).value(), ElementsAre(3, 0, 4, 0, 5, 0));
}

TEST_F(SequenceTokensTest, WhatIsNoNumberOfTokensIsNamed) {
  EXPECT_THAT(Refusal("3 x 5"), AllOf(HasSubstr("sequence 1"), HasSubstr("\"x\"")));
  for (const std::string text : {"-1", "2147483648", "3.5", "{3}", "[3", "3]", "[[3]]"}) {
    Refusal(text);
  }
  EXPECT_THAT(Refusal(Raw(std::vector<int32_t>{3, -1})), HasSubstr("sequence 1 has \"-1\""));
  EXPECT_THAT(Refusal(Npy("<i8", std::vector<int64_t>{3, int64_t{1} << 31})),
              HasSubstr("sequence 1"));
  EXPECT_THAT(Refusal(Raw(std::vector<int32_t>{3}) + '\1'), HasSubstr("multiple of 4"));
}

TEST_F(SequenceTokensTest, TooManyAreRefused) {
  std::string text((size_t{1} << 24) * 2 + 2, ' ');
  for (size_t i = 0; i < text.size(); i += 2) text[i] = '1';
  EXPECT_THAT(Refusal(text), HasSubstr("more than 16777216 sequences"));
}

}  // namespace
}  // namespace engram
