#include "memstore/safetensors/header.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing_checkpoint::FileText;
using testing_checkpoint::WriteText;

class HeaderTest : public testing::Test {
 protected:
  HeaderTest() : dir_(fs::path(testing::TempDir()) / "header_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~HeaderTest() override { fs::remove_all(dir_); }
  std::string Path() const { return dir_ / "model.safetensors"; }
  absl::StatusOr<SafetensorsHeader> Read(const std::string& text) const {
    WriteText(Path(), text);
    return ReadSafetensorsHeader(Path(),
                                 [](absl::string_view n) { return absl::StartsWith(n, "want"); });
  }
  void ExpectRefused(const std::string& text, absl::StatusCode code, const char* message) const {
    const absl::Status status = Read(text).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path()));
  }
  fs::path dir_;
};

std::string Entry(const std::string& name, int begin, int end) {
  return absl::StrCat("\"", name, R"(":{"dtype":"U8","shape":[)", end - begin,
                      R"(],"data_offsets":[)", begin, ",", end, "]}");
}

TEST_F(HeaderTest, KeepsTheWantedTensorsAlone) {
  const std::string header = absl::StrCat("{\"__metadata__\":{\"want.not\":\"a tensor\"},",
                                          Entry("other", 0, 3), ",", Entry("want.a", 3, 8), "}");
  const SafetensorsHeader read = Read(FileText(header, "12345678")).value();
  ASSERT_EQ(read.tensors.size(), 1u);
  const TensorPlace& place = read.tensors.at("want.a");
  EXPECT_EQ(place.offset, 8 + header.size() + 3);
  EXPECT_EQ(place.bytes, 5u);
  EXPECT_TRUE(read.stray.empty());
}

// Values may be shorter than a byte; a tensor is whole bytes.
TEST_F(HeaderTest, CountsTheBitsOfShortValues) {
  const auto header = [](const char* dtype, const char* shape, int bytes) {
    return absl::StrCat(R"({"want":{"dtype":")", dtype, R"(","shape":)", shape,
                        R"(,"data_offsets":[0,)", bytes, "]}}");
  };
  EXPECT_EQ(Read(FileText(header("F4", "[3,4]", 6), "123456")).value().tensors.at("want").bytes,
            6u);
  EXPECT_TRUE(Read(FileText(header("F6_E2M3", "[4]", 3), "123")).ok());
  ExpectRefused(FileText(header("F4", "[3]", 2), "12"), absl::StatusCode::kDataLoss,
                "no whole number of bytes");
  ExpectRefused(FileText(header("F5", "[8]", 5), "12345"), absl::StatusCode::kInvalidArgument,
                "does not know");
}

TEST_F(HeaderTest, FindsBytesOfNoTensor) {
  const std::string header = absl::StrCat("{", Entry("want.b", 9, 10), ",", Entry("want", 2, 5),
                                          ",", Entry("other", 5, 7), "}");
  const SafetensorsHeader read = Read(FileText(header, std::string(16, 'x'))).value();
  std::vector<std::pair<uint64_t, uint64_t>> stray;
  for (const ByteRange& range : read.stray) {
    stray.emplace_back(range.begin - 8 - header.size(), range.end - 8 - header.size());
  }
  EXPECT_THAT(stray, testing::ElementsAre(std::pair(0, 2), std::pair(7, 9), std::pair(10, 16)));
}

TEST_F(HeaderTest, RefusesWhatIsThereTwice) {
  const std::string want = Entry("want", 0, 8);
  ExpectRefused(FileText("{" + want + "," + want + "}", "12345678"), absl::StatusCode::kDataLoss,
                "twice");
  for (const char* again : {R"("dtype":"I8",)", R"("shape":[8],)", R"("data_offsets":[0,8],)"}) {
    std::string twice = want;
    twice.insert(twice.find('{') + 1, again);
    ExpectRefused(FileText("{" + twice + "}", "12345678"), absl::StatusCode::kDataLoss, "twice");
  }
}

TEST_F(HeaderTest, SaysThatASoundHeaderIsTooLong) {
  // Sparse: as long as it says.
  const uint64_t length = kMaxHeaderBytes + 1;
  WriteText(Path(), std::string(reinterpret_cast<const char*>(&length), 8) + "{}");
  fs::resize_file(Path(), 8 + length);
  const absl::Status status =
      ReadSafetensorsHeader(Path(), [](absl::string_view) { return true; }).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  for (const char* part : {"100000001", "100000000", "more shards"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST_F(HeaderTest, NamesWhatIsNoSafetensors) {
  ExpectRefused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
                absl::StatusCode::kDataLoss, "git lfs pull");
  ExpectRefused(std::string("GGUF\3\0\0\0", 8) + std::string(100, 'x'), absl::StatusCode::kDataLoss,
                "GGUF");
  ExpectRefused("<html>not found</html>", absl::StatusCode::kDataLoss, "no safetensors");
  for (const char* header : {"[]", "5 ", "\"text\"", "{", "{\"want\":"}) {
    ExpectRefused(FileText(header, ""), absl::StatusCode::kDataLoss, "header");
  }
}

TEST_F(HeaderTest, RefusesANestThatIsTooDeep) {
  ExpectRefused(FileText("{\"x\":" + std::string(1'000'000, '['), ""), absl::StatusCode::kDataLoss,
                "nests");
}

}  // namespace
}  // namespace engram
