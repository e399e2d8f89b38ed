#include "client/cli/support/token_stream.h"

#include "client/token_files/testing/file_test.h"
#include "gmock/gmock.h"
#include "memstore/addressing/scheme.h"

namespace engram::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;
using Wide = std::vector<int64_t>;
using Marks = std::vector<uint8_t>;

class TokenStreamTest : public FileTest {
 protected:
  struct Sequence {
    Ids ids;
    Marks dead;
    bool operator==(const Sequence&) const = default;
  };
  // All sequences, read `count` tokens at a time.
  static absl::StatusOr<std::vector<Sequence>> All(const TokenFiles& files, size_t count) {
    absl::StatusOr<TokenStream> stream = TokenStream::Open(files);
    if (!stream.ok()) return stream.status();
    std::vector<Sequence> all;
    while (true) {
      const absl::StatusOr<TokenStream::Run> run = stream->Read(count);
      if (!run.ok()) return run.status();
      if (run->token_ids.empty()) return all;
      EXPECT_LE(run->token_ids.size(), count);
      if (run->starts_sequence) all.emplace_back();
      if (all.empty()) return absl::InternalError("the first run starts no sequence");
      Sequence& last = all.back();
      last.ids.insert(last.ids.end(), run->token_ids.begin(), run->token_ids.end());
      last.dead.insert(last.dead.end(), run->dead.begin(), run->dead.end());
    }
  }
  std::string Refusal(const TokenFiles& files) {
    std::string first;
    for (const size_t count : {size_t{1}, size_t{2}, size_t{100}}) {
      const absl::Status status = All(files, count).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      if (first.empty()) first = std::string(status.message());
      EXPECT_EQ(first, status.message());
    }
    return first;
  }

  const std::string ids_ = Write("ids", Raw(Ids{5, 6, 7, 8, 9, 10}));
};

TEST_F(TokenStreamTest, OneSequenceAndItsMask) {
  const std::string mask = Write("mask", Raw(Marks{0, 0, 1, 0, 0, 1}));
  for (const size_t count : {1, 2, 4, 6, 100}) {
    const auto bare = All({.token_ids = ids_}, count);
    ASSERT_TRUE(bare.ok()) << bare.status();
    EXPECT_THAT(*bare, ElementsAre(Sequence{{5, 6, 7, 8, 9, 10}, {}}));
    const auto masked = All({.token_ids = ids_, .dead_mask = mask}, count);
    ASSERT_TRUE(masked.ok()) << masked.status();
    EXPECT_THAT(*masked, ElementsAre(Sequence{{5, 6, 7, 8, 9, 10}, {0, 0, 1, 0, 0, 1}}));
  }
}

TEST_F(TokenStreamTest, SequencesBeginWhereTheirTokensSay) {
  const std::string mask = Write("mask", Raw(Marks{0, 0, 1, 0, 0, 1}));
  const std::string lengths = Write("lengths", "0 3 0 1 2 0");
  for (const size_t count : {1, 2, 4, 6, 100}) {
    const auto all = All({.token_ids = ids_, .dead_mask = mask, .sequence_tokens = lengths}, count);
    ASSERT_TRUE(all.ok()) << all.status();
    EXPECT_THAT(*all, ElementsAre(Sequence{{5, 6, 7}, {0, 0, 1}}, Sequence{{8}, {0}},
                                  Sequence{{9, 10}, {0, 1}}));
  }
}

TEST_F(TokenStreamTest, SequencesHaveAllTokensAndNoMore) {
  EXPECT_THAT(Refusal({.token_ids = ids_, .sequence_tokens = Write("lengths", "3 2")}),
              AllOf(HasSubstr("more token ids than the 5"), HasSubstr(Path("lengths"))));
  EXPECT_THAT(Refusal({.token_ids = ids_, .sequence_tokens = Write("lengths", "3 2 2 1")}),
              AllOf(HasSubstr("holds 6 token ids, fewer than"), HasSubstr("sequence 2 of 4")));
  EXPECT_THAT(Refusal({.token_ids = ids_, .sequence_tokens = Write("lengths", "3 3 1")}),
              HasSubstr("sequence 2 of 3"));
  EXPECT_THAT(Refusal({.token_ids = ids_, .sequence_tokens = Write("lengths", "")}),
              HasSubstr("more token ids than the 0"));
}

TEST_F(TokenStreamTest, AMaskOfAnotherLengthIsRefused) {
  EXPECT_THAT(Refusal({.token_ids = ids_, .dead_mask = Write("mask", std::string(5, '\0'))}),
              AllOf(HasSubstr("shorter"), HasSubstr("--token-ids-type int64")));
  EXPECT_THAT(Refusal({.token_ids = ids_, .dead_mask = Write("mask", std::string(7, '\0'))}),
              HasSubstr("longer"));
  // Sequences change nothing about it.
  EXPECT_THAT(Refusal({.token_ids = ids_,
                       .dead_mask = Write("mask", std::string(7, '\0')),
                       .sequence_tokens = Write("lengths", "3 3")}),
              HasSubstr("longer"));
}

TEST_F(TokenStreamTest, AMaskTellsInt32FromInt64) {
  // All dead: as int32 every second one is -1.
  const std::string dead = Write("dead", Raw(Ids(4, -1)));
  const auto all = All({.token_ids = dead, .dead_mask = Write("mask", std::string(4, '\1'))}, 3);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, ElementsAre(Sequence{{-1, -1, -1, -1}, {1, 1, 1, 1}}));
  const std::string wide = Write("wide", Raw(Wide{5, 6, 7}));
  const std::string mask = Write("mask", std::string(3, '\0'));
  EXPECT_THAT(Refusal({.token_ids = wide, .dead_mask = mask}), HasSubstr("--token-ids-type int64"));
  const auto said = All({.token_ids = wide, .token_ids_type = "int64", .dead_mask = mask}, 2);
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_THAT(*said, ElementsAre(Sequence{{5, 6, 7}, {0, 0, 0}}));
}

TEST_F(TokenStreamTest, ADeadPositionsIdIsNotLookedAt) {
  const std::string wide = Write("wide", Raw(Wide{5, int64_t{1} << 40, 7, int64_t{1} << 41}));
  TokenFiles files = {.token_ids = wide,
                      .token_ids_type = "int64",
                      .dead_mask = Write("mask", Raw(Marks{0, 1, 0, 1}))};
  const auto all = All(files, 3);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, ElementsAre(Sequence{{5, INT32_MIN, 7, INT32_MIN}, {0, 1, 0, 1}}));
  files.dead_mask = Write("mask", Raw(Marks{0, 1, 0, 0}));
  EXPECT_THAT(Refusal(files), HasSubstr("token id 2199023255552 at position 3"));
  files.dead_mask.clear();
  EXPECT_THAT(Refusal(files), HasSubstr("token id 1099511627776 at position 1"));
}

TEST_F(TokenStreamTest, TheFirstTokensAreReadWithTheirMarks) {
  TokenFiles files = {.token_ids = ids_};
  EXPECT_THAT(ReadTokens(files, 4)->token_ids, ElementsAre(5, 6, 7, 8));
  EXPECT_TRUE(ReadTokens(files, 4)->dead.empty());
  files.dead_mask = Write("mask", Raw(Marks{0, 0, 1, 0, 0, 1}));
  for (const size_t most : {6, 100}) {
    const auto all = ReadTokens(files, most);
    ASSERT_TRUE(all.ok()) << all.status();
    EXPECT_THAT(all->token_ids, ElementsAre(5, 6, 7, 8, 9, 10));
    EXPECT_THAT(all->dead, ElementsAre(0, 0, 1, 0, 0, 1));
  }
  EXPECT_THAT(ReadTokens(files, 4)->dead, ElementsAre(0, 0, 1, 0));
  files.dead_mask = Write("mask", std::string(7, '\0'));
  EXPECT_THAT(std::string(ReadTokens(files, 100).status().message()), HasSubstr("longer"));
}

TEST(CheckDeadMask, IsOfSchemesWithDeadPositions) {
  AddressScheme scheme;
  scheme.family = "a-family";
  EXPECT_TRUE(CheckDeadMask({.token_ids = "a"}, scheme).ok());
  EXPECT_THAT(std::string(CheckDeadMask({.token_ids = "a", .dead_mask = "b"}, scheme).message()),
              AllOf(HasSubstr("--dead-mask"), HasSubstr("a-family")));
  scheme.dead_positions = true;
  EXPECT_TRUE(CheckDeadMask({.token_ids = "a", .dead_mask = "b"}, scheme).ok());
}

TEST_F(TokenStreamTest, StandardInputIsOneFile) {
  EXPECT_TRUE(CheckTokenFiles({.token_ids = "-"}).ok());
  EXPECT_TRUE(CheckTokenFiles({.token_ids = "a", .dead_mask = "-", .sequence_tokens = "b"}).ok());
  for (const TokenFiles& files : {TokenFiles{.token_ids = "-", .dead_mask = "-"},
                                  TokenFiles{.token_ids = "-", .sequence_tokens = "-"},
                                  TokenFiles{.dead_mask = "-", .sequence_tokens = "-"}}) {
    EXPECT_THAT(std::string(CheckTokenFiles(files).message()), HasSubstr("standard input"));
  }
}

}  // namespace
}  // namespace engram::cli
