#include "memstore/addressing/token_map.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/testing/golden.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

std::string Bytes(const std::vector<int32_t>& ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)};
}

TokenMapReference ReferenceTo(const std::string& bytes, uint32_t compressed_vocab_size) {
  return {
      .file = "map", .sha256 = Sha256Hex(bytes), .compressed_vocab_size = compressed_vocab_size};
}

TEST(TokenMapTest, V41MapHasItsKnownEntries) {
  const std::shared_ptr<const TokenMap> map = MapFor(DeriveOrDie("deepseek-v4.1-flash"));
  const nlohmann::json& golden = KnownAnswers()["token_map"];
  EXPECT_EQ(map->compressed().size(), golden["v41_len"]);
  EXPECT_EQ(Sha256Hex(map->bytes()), golden["v41_sha256_i32"].get<std::string>());
  for (const auto& [id, compressed] : golden["spots"].items()) {
    EXPECT_EQ(map->compressed()[std::stoi(id)], compressed) << id;
  }
}

TEST(TokenMapTest, V3MapIsTheBeginningOfTheV41Map) {
  const std::shared_ptr<const TokenMap> map = MapFor(DeriveOrDie("engram-demo-v1"));
  const nlohmann::json& golden = KnownAnswers()["token_map"];
  EXPECT_EQ(map->compressed().size(), golden["v3_len"]);
  EXPECT_EQ(Sha256Hex(map->bytes()), golden["v3_sha256_i32"].get<std::string>());
  const std::shared_ptr<const TokenMap> longer = MapFor(DeriveOrDie("deepseek-v4.1-flash"));
  EXPECT_EQ(map->bytes(), longer->bytes().substr(0, map->bytes().size()));
}

TEST(TokenMapTest, AnyOtherBytesAreRefused) {
  const std::string good = Bytes({0, 1, 1, 2});
  const TokenMapReference reference = ReferenceTo(good, 3);
  ASSERT_TRUE(TokenMap::Parse(good, 4, reference, "map").ok());

  std::string flipped = good;
  flipped[5] ^= 1;
  const absl::Status wrong_digest = TokenMap::Parse(flipped, 4, reference, "my.map").status();
  EXPECT_EQ(wrong_digest.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(wrong_digest.message()), HasSubstr("my.map"));
  EXPECT_THAT(std::string(wrong_digest.message()), HasSubstr(reference.sha256));

  for (const std::string& bytes : {std::string(), good + "x", good.substr(4)}) {
    EXPECT_EQ(TokenMap::Parse(bytes, 4, reference, "map").status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

TEST(TokenMapTest, EntriesOutOfRangeAreRefusedEvenWithTheirDigest) {
  for (const int32_t bad : {-1, 3}) {
    const std::string bytes = Bytes({0, bad});
    const absl::Status status = TokenMap::Parse(bytes, 2, ReferenceTo(bytes, 3), "map").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("token id 1"));
  }
}

TEST(TokenMapTest, FilesThatAreNotThereOrNotTheMap) {
  const TokenMapReference reference = ReferenceTo("", 3);
  EXPECT_EQ(TokenMap::Load("no/such/map", 4, reference).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(TokenMap::Load(".", 4, reference).ok());
  // A pipe is refused, not waited for.
  const std::string pipe = ::testing::TempDir() + "/token_map_pipe";
  unlink(pipe.c_str());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(TokenMap::Load(pipe, 4, reference).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(TokenMap::Load("tests/golden/known_answers.json", 4, reference).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace engram
