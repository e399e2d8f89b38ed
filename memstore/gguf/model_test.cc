#include "memstore/gguf/model.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/gguf/testing/small_gguf.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_gguf::File;
using testing_gguf::Int32;
using testing_gguf::kF32;
using testing_gguf::Uint16;
using testing_gguf::Uint32;
using testing_gguf::Write;

// Part `part` (from 0) of three, with one tensor.
File Part(uint16_t part) {
  File file;
  file.keys = {Uint16("split.no", part), Uint16("split.count", 3), Int32("split.tensors.count", 3)};
  if (part == 0) file.keys.push_back(Uint32("x.engram.head_count", 8));
  file.tensors = {{absl::StrCat("t", part), kF32, {2}, std::string(8, 'a')}};
  return file;
}

class GgufModelTest : public testing::Test {
 protected:
  GgufModelTest() : dir_(fs::path(testing::TempDir()) / "gguf_model_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~GgufModelTest() override { fs::remove_all(dir_); }

  std::string PathOf(int part) const {
    return dir_ / absl::StrCat("m-0000", part + 1, "-of-00003.gguf");
  }
  void WriteParts() {
    for (uint16_t part = 0; part < 3; ++part) Write(PathOf(part), Part(part));
  }
  absl::StatusOr<GgufModel> Open(const std::string& path) {
    return GgufModel::Open(path,
                           [](absl::string_view key) { return absl::StrContains(key, "engram"); });
  }
  void ExpectRefused(absl::StatusCode code, const std::string& part) {
    const absl::Status status = Open(PathOf(0)).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }

  fs::path dir_;
};

TEST_F(GgufModelTest, TellsPartsByTheirNames) {
  EXPECT_THAT(
      GgufPartsOf("a/m-00002-of-00003.gguf"),
      ElementsAre("a/m-00001-of-00003.gguf", "a/m-00002-of-00003.gguf", "a/m-00003-of-00003.gguf"));
  for (const char* alone :
       {"m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf",
        "m-00001-of-00003", "m_00001-of-00003.gguf", "00001-of-00003.gguf", "m-00001-of-99999.gguf",
        "m-+0001-of-00003.gguf"}) {
    EXPECT_THAT(GgufPartsOf(alone), ElementsAre(alone));
  }
}

TEST_F(GgufModelTest, ReadsAllPartsWhicheverIsGiven) {
  WriteParts();
  for (int given = 0; given < 3; ++given) {
    const absl::StatusOr<GgufModel> model = Open(PathOf(given));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->files().size(), 3u);
    EXPECT_EQ(model->tensors().size(), 3u);
    EXPECT_EQ(model->tensors().at("t2").file, PathOf(2));
    EXPECT_EQ(model->metadata().size(), 1u);
    EXPECT_EQ(model->metadata().at("x.engram.head_count").file, PathOf(0));
    EXPECT_EQ(model->files()[1].header_bytes, HeaderBytes(Part(1)));
  }
}

TEST_F(GgufModelTest, OneFileIsAModel) {
  Write(dir_ / "one.gguf", {.keys = {}, .tensors = {{"t", kF32, {2}, std::string(8, 'a')}}});
  EXPECT_EQ(Open(dir_ / "one.gguf")->files().size(), 1u);
  EXPECT_EQ(Open(dir_ / "none.gguf").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GgufModelTest, PartsThatDoNotBelongTogetherAreRefused) {
  WriteParts();
  fs::remove(PathOf(1));
  ExpectRefused(absl::StatusCode::kNotFound, PathOf(1));
  Write(PathOf(1), Part(2));
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "part 2 (from 0) of 3");
  File part = Part(1);
  part.tensors[0].name = "t0";
  Write(PathOf(1), part);
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "t0 is in two files");
  part = Part(1);
  part.keys.push_back(Uint32("x.engram.head_count", 4));
  Write(PathOf(1), part);
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "x.engram.head_count has one value");
  part.keys.back() = Uint32("x.engram.head_count", 8);
  part.tensors.push_back({"more", kF32, {2}, std::string(8, 'a')});
  Write(PathOf(1), part);
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "3 tensors together, and there are 4");
  // A part under a name that hides the others.
  fs::copy(PathOf(0), dir_ / "hidden.gguf");
  EXPECT_THAT(std::string(Open(dir_ / "hidden.gguf").status().message()),
              HasSubstr("NAME-0000N-of-0000M.gguf"));
}

}  // namespace
}  // namespace engram
