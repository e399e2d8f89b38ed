#include "client/token_files/token_id_reader.h"

#include "client/token_files/testing/file_test.h"
#include "gmock/gmock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;
using Wide = std::vector<int64_t>;

class TokenIdReaderTest : public FileTest {
 protected:
  absl::StatusOr<Ids> All(const std::string& file, const TokenIdReader::Options& options = {}) {
    return ReadTokenIds(Write("ids", file), options, SIZE_MAX);
  }
  std::string Refusal(const std::string& file, const TokenIdReader::Options& options = {}) {
    const absl::Status status = All(file, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path("ids")));
    return std::string(status.message());
  }
  // OK and these; the type of the failure tells what.
  void ExpectIds(const std::string& file, const Ids& want,
                 const TokenIdReader::Options& options = {}) {
    const absl::StatusOr<Ids> ids = All(file, options);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, want);
  }
};

const Ids kIds = {5, 6, 7, 8, 9, 10, 129279, 0, 0};

TEST_F(TokenIdReaderTest, ReadsRawIdsOfEitherType) {
  ExpectIds(Raw(kIds), kIds);
  ExpectIds(Raw(Wide(kIds.begin(), kIds.end())), kIds, {.type = TokenIdType::kInt64});
  ExpectIds("", {});
  ExpectIds("", {}, {.type = TokenIdType::kInt64});
  ExpectIds(Raw(Ids{-1, -1, -1, 5}), {-1, -1, -1, 5});
}

TEST_F(TokenIdReaderTest, ReadsArraysByTheirHeader) {
  ExpectIds(Npy("<i4", kIds), kIds);
  ExpectIds(Npy("<i8", Wide(kIds.begin(), kIds.end())), kIds);
  ExpectIds(Npy("<u4", std::vector<uint32_t>(kIds.begin(), kIds.end())), kIds);
  // By their header: what looks like something else is none.
  ExpectIds(Npy("<i4", Ids{5, 0, 6, 0, 7, 0}), {5, 0, 6, 0, 7, 0});
  ExpectIds(Npy("<i4", Ids{}), {});
}

TEST_F(TokenIdReaderTest, RefusesInt64ThatNobodySaidIsInt64) {
  for (const Wide& wide : {Wide{5, 6}, Wide{5, 6, 7, 8, 9}, Wide{-1, 5, -1, 7}, Wide(50'000, 11),
                           Wide{0, 0, 0}, Wide{5}, Wide{0}, Wide{-1}, Wide{129279}}) {
    EXPECT_THAT(Refusal(Raw(wide)),
                AllOf(HasSubstr("looks like int64"), HasSubstr("--token-ids-type int64"),
                      HasSubstr("--token-ids-type int32")));
    // Either word is the cure.
    ExpectIds(Raw(wide), Ids(wide.begin(), wide.end()), {.type = TokenIdType::kInt64});
    Ids halves(wide.size() * 2);
    std::memcpy(halves.data(), wide.data(), wide.size() * 8);
    ExpectIds(Raw(wide), halves, {.type = TokenIdType::kInt32});
    ExpectIds(Raw(wide), halves, {.lookalikes = true});
  }
}

TEST_F(TokenIdReaderTest, RefusesInt64ThatAreCutOrOfWhichOneIsWide) {
  Wide ids(300);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(5 + i * 7 % 129'000);
  const std::string whole = Raw(ids);
  Wide marked = ids;  // as a framework marks what has no label
  for (size_t i = 0; i < marked.size(); i += 3) marked[i] = -1;
  std::vector<std::string> files = {whole.substr(0, whole.size() - 4), whole.substr(4),
                                    whole.substr(4, whole.size() - 8), Raw(marked).substr(4)};
  for (const size_t at : {size_t{0}, ids.size() / 2, ids.size() - 1}) {
    Wide wide = ids;
    wide[at] = int64_t{1} << 33;
    files.push_back(Raw(wide));
    files.push_back(Raw(wide).substr(4));
  }
  Wide many = ids;  // as many as may be
  for (size_t i = 0; i < 300 / 16; ++i) many[i] = (int64_t{1} << 33) + 5;
  files.push_back(Raw(many));
  for (const std::string& file : files) {
    EXPECT_THAT(Refusal(file), HasSubstr("looks like int64"));
    EXPECT_TRUE(All(file, {.type = TokenIdType::kInt32}).ok());
  }
}

TEST_F(TokenIdReaderTest, Int32InWhichZeroIsFrequentStay) {
  Ids late(40'001, 0);  // padded on its left, longer than one read
  late[39'999] = 7;
  for (const Ids& ids : {Ids{5, 0, 6, 0, 7, 8, 9, 0}, Ids{0, 5, 0, 6, 0, 7}, Ids{5, 6}, Ids{5, -1},
                         Ids{0, -1}, Ids{-1, 0}, Ids{0, 5}, Ids{0}, Ids{5, 0, 6, 0, 7},
                         Ids{0, 0, 0, 0, 0, 3}, Ids(5, 0), late}) {
    ExpectIds(Raw(ids), ids);
  }
  // Long ones with a zero in every third place, or in seven of eight pairs.
  Ids thirds(3000), pairs(3000);
  for (size_t i = 0; i < thirds.size(); ++i) {
    thirds[i] = i % 3 == 0 ? 0 : static_cast<int32_t>(i);
    pairs[i] = i % 2 == 1 && i % 16 != 1 ? 0 : static_cast<int32_t>(i + 1);
  }
  ExpectIds(Raw(thirds), thirds);
  ExpectIds(Raw(pairs), pairs);
}

TEST_F(TokenIdReaderTest, OtherArraysAreRefusedByName) {
  EXPECT_THAT(Refusal(Npy(">i4", Ids{5})),
              AllOf(HasSubstr("'>i4' (big-endian)"), HasSubstr("numpy.save(FILE, ids.astype")));
  for (const std::string type : {"<f4", "<i2", "<u2", "<u8", "|u1", "|b1", "|O", "=i4", "<U3"}) {
    EXPECT_THAT(Refusal(Npy(type, Ids{5})), HasSubstr("array of '" + type + "'"));
  }
  EXPECT_THAT(Refusal(Npy("<i8", Wide{5}), {.type = TokenIdType::kInt32}),
              AllOf(HasSubstr("'<i8'"), HasSubstr("says int32")));
  EXPECT_THAT(Refusal(Npy("<u4", Ids{5}), {.type = TokenIdType::kInt64}), HasSubstr("'<u4'"));
  ExpectIds(Npy("<i8", Wide{5}), {5}, {.type = TokenIdType::kInt64});
}

TEST_F(TokenIdReaderTest, AnArrayIsAsLongAsItsHeaderSays) {
  const std::string whole = Npy("<i8", Wide{5, 6, 7});
  EXPECT_THAT(Refusal(whole.substr(0, whole.size() - 8)), HasSubstr("is cut off"));
  EXPECT_THAT(Refusal(whole.substr(0, whole.size() - 1)), HasSubstr("is cut off"));
  EXPECT_THAT(Refusal(whole + "x"), HasSubstr("more than the 3 token ids"));
  // A number of elements that no memory holds.
  EXPECT_THAT(Refusal(Npy("{'descr': '<i8', 'fortran_order': False, 'shape': "
                          "(18446744073709551615,), }",
                          Raw(Wide{5, 6}))),
              HasSubstr("is cut off"));
}

TEST_F(TokenIdReaderTest, AnIdThatIsCutOffIsRefused) {
  EXPECT_THAT(Refusal(Raw(kIds) + '\1'), HasSubstr("not a multiple of 4"));
  EXPECT_THAT(Refusal(Raw(Ids{5, 6, 7}), {.type = TokenIdType::kInt64}),
              HasSubstr("not a multiple of 8"));
}

TEST_F(TokenIdReaderTest, TextAndWhatElseIsNoIdsIsNamed) {
  for (const std::string text : {"5 6 7 8\n", "a", "1,2,3",
                                 // A byte order mark; in brackets, as it is no list's end.
                                 ("\xef\xbb\xbf"
                                  "5 6"),
                                 "\xe4\xbd\xa0 5"}) {
    EXPECT_THAT(Refusal(text), AllOf(HasSubstr("is text"), HasSubstr("tofile"))) << text;
  }
  EXPECT_THAT(Refusal(std::string("\xff\xfe"
                                  "5\0 \0",
                                  6)),
              HasSubstr("is text"));
  EXPECT_THAT(Refusal(std::string(100'000, '7')), HasSubstr("is text"));
  for (const std::string json : {"[5, 6, 7, 8]", " \n{\"input_ids\": [5]}"}) {
    EXPECT_THAT(Refusal(json), HasSubstr("is JSON"));
  }
  EXPECT_THAT(Refusal("PK\x03\x04 and so on"), HasSubstr("numpy.savez and torch.save"));
  // Also where a type is said: no text is numbers.
  EXPECT_THAT(Refusal("5 6 7 8\n", {.type = TokenIdType::kInt32}), HasSubstr("is text"));
  // Ids whose first bytes are characters.
  ExpectIds(Raw(Ids{0x4150, 0x5B, 0x414b50}), {0x4150, 0x5B, 0x414b50});
}

TEST_F(TokenIdReaderTest, IdsBeyondInt32AreKeptApart) {
  const Wide wide = {5, int64_t{1} << 32, -1, INT64_MIN, 7, INT32_MIN};
  auto reader = TokenIdReader::Open(Write("ids", Raw(wide)), {.type = TokenIdType::kInt64});
  ASSERT_TRUE(reader.ok());
  Ids ids(3);
  EXPECT_EQ(reader->Read(ids.data(), 3).value(), 3u);
  EXPECT_THAT(ids, ElementsAre(5, INT32_MIN, -1));
  ASSERT_EQ(reader->wide().size(), 1u);
  EXPECT_EQ(reader->wide()[0].position, 1u);
  EXPECT_EQ(reader->wide()[0].value, int64_t{1} << 32);
  EXPECT_EQ(reader->Read(ids.data(), 3).value(), 3u);
  EXPECT_THAT(ids, ElementsAre(INT32_MIN, 7, INT32_MIN));
  ASSERT_EQ(reader->wide().size(), 1u);
  EXPECT_EQ(reader->wide()[0].position, 3u);
  EXPECT_EQ(reader->Read(ids.data(), 3).value(), 0u);
  EXPECT_TRUE(reader->wide().empty());

  EXPECT_THAT(Refusal(Npy("<u4", std::vector<uint32_t>{5, UINT32_MAX})),
              AllOf(HasSubstr("token id 4294967295 at position 1"), HasSubstr("unsigned"),
                    HasSubstr("image")));
}

TEST_F(TokenIdReaderTest, TheFirstOfMany) {
  const Ids many(200'000, 7);
  const auto first = ReadTokenIds(Write("ids", Raw(many)), {}, 100'001);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->size(), 100'001u);
  ExpectIds(Raw(many), many);
}

}  // namespace
}  // namespace engram
