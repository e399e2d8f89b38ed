#include "memstore/gguf/header.h"

#include <filesystem>
#include <fstream>

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
using namespace testing_gguf;  // NOLINT: the writer's names are what these tests are made of

std::string Rows(size_t bytes, char first) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(first + i % 64);
  return text;
}

// Two tensors and a key of each kind.
File Sample() {
  File file;
  file.keys = {Text("general.architecture", "deepseek41"),
               Uint64s("deepseek41.engram.multipliers", {3, 5, 7}),
               Int32s("deepseek41.engram.token_map", {0, -1, 2}),
               Texts("tokenizer.ggml.tokens", {"a", "", "<|end|>"}),
               Float32("longcat.ngram.vocab_size_ratio", 78.5f),
               {"a.bool", 7, std::string(1, '\1')}};
  file.tensors = {{"blk.1.engram_embd.weight", kQ8_0, {64, 5}, Rows(5 * 68, 'a')},
                  {"output_norm.weight", kF32, {3}, Rows(12, 'A')}};
  return file;
}

class GgufHeaderTest : public testing::Test {
 protected:
  GgufHeaderTest() : dir_(fs::path(testing::TempDir()) / "gguf_header_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~GgufHeaderTest() override { fs::remove_all(dir_); }

  absl::StatusOr<GgufHeader> Read(const std::string& text) {
    std::ofstream(dir_ / "m.gguf", std::ios::binary) << text;
    return ReadGgufHeader(dir_ / "m.gguf", [](absl::string_view) { return true; });
  }
  absl::StatusOr<GgufHeader> Read(const File& file) { return Read(FileText(file)); }
  void ExpectRefused(const File& file, absl::StatusCode code, const std::string& part) {
    const absl::Status status = Read(file).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    EXPECT_THAT(std::string(status.message()), HasSubstr((dir_ / "m.gguf").string()));
  }

  fs::path dir_;
};

TEST_F(GgufHeaderTest, ReadsKeysAndTensors) {
  for (const uint32_t version : {2u, 3u}) {
    File file = Sample();
    file.version = version;
    const absl::StatusOr<GgufHeader> read = Read(file);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->version, version);
    EXPECT_EQ(read->header_bytes, HeaderBytes(file));
    const auto& metadata = read->metadata;
    EXPECT_EQ(metadata.at("general.architecture").text, "deepseek41");
    EXPECT_THAT(metadata.at("deepseek41.engram.multipliers").numbers, ElementsAre(3, 5, 7));
    EXPECT_TRUE(metadata.at("deepseek41.engram.multipliers").is_list);
    EXPECT_THAT(metadata.at("deepseek41.engram.token_map").numbers, ElementsAre(0, -1, 2));
    EXPECT_EQ(metadata.at("tokenizer.ggml.tokens").kind, GgufValue::Kind::kOther);
    EXPECT_THAT(metadata.at("longcat.ngram.vocab_size_ratio").reals, ElementsAre(78.5));
    EXPECT_EQ(metadata.at("a.bool").kind, GgufValue::Kind::kBool);
    ASSERT_EQ(read->tensors.size(), 2u);
    const GgufTensor& table = read->tensors[0];
    EXPECT_EQ(table.name, "blk.1.engram_embd.weight");
    EXPECT_EQ(table.type->name, "q8_0");
    EXPECT_EQ(table.RowValues(), 64u);
    EXPECT_EQ(table.Rows(), 5u);
    EXPECT_EQ(table.bytes, 5u * 68);
    EXPECT_EQ(Describe(table), "Q8_0 [5, 64]");
    EXPECT_EQ(FileText(file).substr(table.offset, table.bytes), file.tensors[0].bytes);
    const GgufTensor& norm = read->tensors[1];
    EXPECT_EQ(FileText(file).substr(norm.offset, norm.bytes), file.tensors[1].bytes);
    EXPECT_TRUE(read->stray.empty());
  }
}

TEST_F(GgufHeaderTest, KeepsWhatIsWantedAlone) {
  Write(dir_ / "m.gguf", Sample());
  const GgufHeader header = ReadGgufHeader(dir_ / "m.gguf", [](absl::string_view key) {
                              return key == "a.bool";
                            }).value();
  EXPECT_EQ(header.metadata.size(), 1u);
  EXPECT_EQ(header.tensors.size(), 2u);
}

TEST_F(GgufHeaderTest, FollowsTheAlignmentThatIsStated) {
  File file = Sample();
  file.alignment = 4096;
  file.keys.push_back(Uint32("general.alignment", 4096));
  const GgufHeader header = Read(file).value();
  EXPECT_EQ(header.tensors[0].offset, HeaderBytes(file));
  EXPECT_EQ(header.tensors[1].offset % 4096, 0u);
  EXPECT_EQ(FileText(file).substr(header.tensors[1].offset, 12), file.tensors[1].bytes);
  for (const uint32_t bad : {0u, 24u, 1u << 21}) {
    file.keys.back() = Uint32("general.alignment", bad);
    ExpectRefused(file, absl::StatusCode::kDataLoss, absl::StrCat("alignment is ", bad));
  }
}

TEST_F(GgufHeaderTest, IsRefusedCutOffAtAnyByte) {
  const std::string text = FileText(Sample());
  for (size_t bytes = 0; bytes < text.size(); ++bytes) {
    const absl::StatusOr<GgufHeader> read = Read(text.substr(0, bytes));
    EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss) << bytes << ": " << read.status();
  }
  EXPECT_TRUE(Read(text).ok());
}

// Any byte of the header that is changed is an error, or changes what that byte says alone: never
// a crash, and no tensor beyond the file.
TEST_F(GgufHeaderTest, HoldsAgainstAnyByteChanged) {
  const std::string text = FileText(Sample());
  for (size_t at = 0; at < HeaderBytes(Sample()); ++at) {
    for (const unsigned char change : {0x01, 0xff}) {
      std::string changed = text;
      changed[at] = static_cast<char>(changed[at] ^ change);
      const absl::StatusOr<GgufHeader> read = Read(changed);
      if (!read.ok()) {
        EXPECT_THAT(std::string(read.status().message()), HasSubstr("m.gguf"));
        continue;
      }
      for (const GgufTensor& tensor : read->tensors) {
        EXPECT_LE(tensor.offset + tensor.bytes, text.size());
      }
    }
  }
}

TEST_F(GgufHeaderTest, OtherCountsAreSeen) {
  for (const int64_t tensors : {0, 1, 3, 100}) {
    File file = Sample();
    file.tensor_count = tensors;
    const absl::StatusOr<GgufHeader> read = Read(file);
    // What is left of the last tensor belongs to none.
    EXPECT_TRUE(!read.ok() || !read->stray.empty()) << tensors;
  }
  for (const int64_t keys : {0, 5, 7, 100}) {
    File file = Sample();
    file.key_count = keys;
    EXPECT_FALSE(Read(file).ok()) << keys;
  }
  File many = Sample();
  many.tensor_count = kMaxGgufTensors + 1;
  ExpectRefused(many, absl::StatusCode::kResourceExhausted, "131073 tensors");
  many.tensor_count = -1;
  many.key_count = kMaxGgufKeys + 1;
  ExpectRefused(many, absl::StatusCode::kResourceExhausted, "65537 keys");
}

TEST_F(GgufHeaderTest, OtherFormatsAreNamed) {
  File file = Sample();
  file.version = 1;
  ExpectRefused(file, absl::StatusCode::kFailedPrecondition, "version 1,");
  file.version = 4;
  ExpectRefused(file, absl::StatusCode::kFailedPrecondition, "version 4,");
  file.version = 3u << 24;
  ExpectRefused(file, absl::StatusCode::kFailedPrecondition, "big-endian");
  EXPECT_THAT(std::string(Read("ggml0123").status().message()), HasSubstr("no GGUF"));
  EXPECT_THAT(std::string(Read("version https://git-lfs.github.com/x").status().message()),
              HasSubstr("git lfs pull"));
}

TEST_F(GgufHeaderTest, ContradictionsAreNamed) {
  constexpr auto kDamaged = absl::StatusCode::kDataLoss;
  File twice = Sample();
  twice.tensors[1].name = twice.tensors[0].name;
  ExpectRefused(twice, kDamaged, "blk.1.engram_embd.weight is there twice");
  File keys = Sample();
  keys.keys.push_back(Text("general.architecture", "other"));
  ExpectRefused(keys, kDamaged, "general.architecture twice");
  File blocks = Sample();
  blocks.tensors[0].shape = {65, 5};
  ExpectRefused(blocks, kDamaged, "blocks of 32");
  File long_one = Sample();
  long_one.tensors[1].shape = {1u << 20};
  ExpectRefused(long_one, kDamaged, "is cut off");
  File huge = Sample();
  huge.tensors[1].shape = {uint64_t{1} << 40, uint64_t{1} << 40};
  ExpectRefused(huge, kDamaged, "can't be");
  File overlap = Sample();
  overlap.tensors[1] = {"output_norm.weight", kF32, {100}, Rows(400, 'A')};
  overlap.tensors[0].shape = {64, 6};  // 68 bytes more than there are before the next one
  ExpectRefused(overlap, kDamaged, "overlap");
  File deep = Sample();
  deep.tensors[1].shape = {1, 1, 1, 1, 3};
  ExpectRefused(deep, kDamaged, "5 dimensions");
  File lists = Sample();
  lists.keys.push_back({"x", 9, std::string("\x09\0\0\0\0\0\0\0\0\0\0\0", 12)});
  ExpectRefused(lists, kDamaged, "list of lists");
  File type = Sample();
  type.keys.push_back({"x", 13, ""});
  ExpectRefused(type, kDamaged, "the type 13");
}

TEST_F(GgufHeaderTest, SaysWhatBelongsToNoTensor) {
  File file = Sample();
  const GgufHeader header = Read(FileText(file) + std::string(100, 'x')).value();
  ASSERT_EQ(header.stray.size(), 1u);
  EXPECT_EQ(header.stray[0].begin, FileText(file).size());
  EXPECT_EQ(header.stray[0].end, FileText(file).size() + 100);
  EXPECT_TRUE(Read(FileText(file) + std::string(31, '\0')).value().stray.empty());
}

// Forks have types of their own: a model that has one somewhere is read as long as it is not the
// table's.
TEST_F(GgufHeaderTest, UnknownTypesAreKept) {
  File file = Sample();
  file.tensors[1].type = 139;
  const GgufHeader header = Read(file).value();
  EXPECT_EQ(header.tensors[1].type, nullptr);
  EXPECT_EQ(Describe(header.tensors[1]), "type 139 [3]");
}

// A tensor of unknown length says nothing of where the one before it ends.
TEST_F(GgufHeaderTest, AnUnknownTypeHidesNoOverlap) {
  File file = Sample();
  // 64 bytes less than the shape says.
  file.tensors = {{"a", kF32, {24}, Rows(32, 'a')}, {"c", kF32, {24}, Rows(96, 'c')}};
  ExpectRefused(file, absl::StatusCode::kDataLoss, "overlap");
  file.tensors.insert(file.tensors.begin() + 1, {"b", 139, {8}, Rows(32, 'b')});
  ExpectRefused(file, absl::StatusCode::kDataLoss, "overlap");
}

TEST(GgmlTypeTest, KnowsTheSizesOfPublishedRows) {
  const auto row_bytes = [](absl::string_view name, uint32_t values) -> uint32_t {
    for (uint32_t number = 0; number < 64; ++number) {
      const GgmlType* type = FindGgmlType(number);
      if (type != nullptr && type->name == name) {
        return values / type->block_values * type->block_bytes;
      }
    }
    return 0;
  };
  EXPECT_EQ(row_bytes("q8_0", 256), 272u);
  EXPECT_EQ(row_bytes("q4_k", 256), 144u);
  EXPECT_EQ(row_bytes("q3_k", 256), 110u);
  EXPECT_EQ(row_bytes("q2_k", 256), 84u);
  EXPECT_EQ(row_bytes("iq4_nl", 160), 90u);
  EXPECT_EQ(row_bytes("mxfp4", 256), 136u);
  EXPECT_EQ(row_bytes("bf16", 160), 320u);
  EXPECT_EQ(FindGgmlType(4), nullptr);
  EXPECT_EQ(FindGgmlType(9), nullptr);
  EXPECT_EQ(FindGgmlType(~0u), nullptr);
}

}  // namespace
}  // namespace engram
