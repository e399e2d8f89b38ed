#include "memstore/safetensors/blob_digests.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BlobDigestsTest : public testing::Test {
 protected:
  BlobDigestsTest() : dir_(fs::path(testing::TempDir()) / "blob_digests_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~BlobDigestsTest() override { fs::remove_all(dir_); }
  Blob Write(const std::string& text, const std::string& of) const {
    const std::string digest = Sha256Hex(of);
    std::ofstream(dir_ / digest, std::ios::binary) << text;
    return {dir_ / digest, digest};
  }
  fs::path dir_;
};

TEST_F(BlobDigestsTest, TakesFilesThatAreWhatTheirNamesSay) {
  std::vector<Blob> blobs;
  // Around the length of one read, and none.
  for (const size_t size : {0, 1, 4 << 20, (9 << 20) + 5}) {
    const std::string text(size, 'x');
    blobs.push_back(Write(text, text));
  }
  const auto digests = BlobDigests::Begin(blobs).value();
  EXPECT_TRUE(digests->Wait().ok());
  EXPECT_FALSE(digests->failed());
  EXPECT_TRUE(BlobDigests::Begin({}).value()->Wait().ok());
}

TEST_F(BlobDigestsTest, NamesTheFileThatDiffers) {
  std::string text(5 << 20, 'x');
  const Blob good = Write(text, text);
  text.back() = 'y';
  const Blob bad = Write(text, std::string(5 << 20, 'z'));
  const auto digests = BlobDigests::Begin({good, bad}).value();
  const absl::Status status = digests->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(digests->failed());
  for (const std::string& part : {bad.path, bad.digest, Sha256Hex(text)}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

// By `git hash-object`.
TEST_F(BlobDigestsTest, ComparesTheNamesThatGitGives) {
  const std::string name = "1269488f7fb1f4b56a8c0e5eb48cecbfadfa9219";
  std::ofstream(dir_ / name) << "data\n";
  const Blob blob{dir_ / name, name};
  EXPECT_TRUE(BlobDigests::Begin({blob}).value()->Wait().ok());
  std::ofstream(dir_ / name) << "date\n";
  const absl::Status status = BlobDigests::Begin({blob}).value()->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("git blob id"));
}

TEST_F(BlobDigestsTest, SaysThatAFileIsGone) {
  const auto digests = BlobDigests::Begin({{dir_ / "none", std::string(64, '0')}}).value();
  EXPECT_EQ(digests->Wait().code(), absl::StatusCode::kNotFound);
}

TEST_F(BlobDigestsTest, EndsWhenNobodyWaits) {
  const std::string text(64 << 20, 'x');
  BlobDigests::Begin({Write(text, text)}).value().reset();
}

}  // namespace
}  // namespace engram
