#include "memstore/table/manifest.h"

#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kRowBytes = 264;

// Two layers of 10,000 and 5,000 rows; the first in two shards.
Manifest Sample() {
  Manifest manifest;
  manifest.name = "sample-v1.0";
  AddressScheme& scheme = manifest.scheme;
  scheme.family = "test";
  scheme.max_order = 2;
  scheme.heads_per_order = 1;
  scheme.vocab_size = 1000;
  scheme.token_map = TokenMapReference{kTokenMapFile, Sha256Hex("map"), 900};
  scheme.pad_id = 2;
  scheme.dead_positions = true;
  scheme.layers = {{1, {7, 9}, {10000}, {0}}, {14, {11, 13}, {5000}, {0}}};
  const RowEncoding encoding{RowEncodingKind::kFp8E4m3Ue8m0Block32, 256, 0};
  const auto shard = [](const std::string& name, uint64_t first_row, uint64_t rows) {
    return ShardSpec{
        name + ".rows", name + ".crc32c", first_row, rows, 1024, ShardFileBytes(rows, kRowBytes),
        Sha256Hex(name)};
  };
  manifest.layers.push_back(
      {1, 10000, kRowBytes, encoding, {shard("a", 0, 8192), shard("b", 8192, 1808)}, true});
  manifest.layers.push_back({14, 5000, kRowBytes, encoding, {shard("c", 0, 5000)}, false});
  return manifest;
}

TEST(ManifestTest, TextAndBackKeepsEverything) {
  const Manifest written = FinishManifest(Sample()).value();
  EXPECT_EQ(written.id, Sha256Hex(written.text));
  const Manifest read = ParseManifest(written.text, "text").value();
  const Manifest sample = Sample();
  EXPECT_EQ(read.id, written.id);
  EXPECT_EQ(read.text, written.text);
  EXPECT_EQ(read.name, sample.name);
  EXPECT_EQ(read.scheme.family, "test");
  EXPECT_EQ(read.scheme.max_order, 2u);
  EXPECT_EQ(read.scheme.vocab_size, 1000u);
  ASSERT_TRUE(read.scheme.token_map.has_value());
  EXPECT_EQ(read.scheme.token_map->file, kTokenMapFile);
  EXPECT_EQ(read.scheme.token_map->compressed_vocab_size, 900u);
  EXPECT_EQ(read.scheme.pad_id, 2);
  EXPECT_FALSE(read.scheme.reset_token_id.has_value());
  EXPECT_TRUE(read.scheme.dead_positions);
  ASSERT_EQ(read.scheme.layers.size(), 2u);
  EXPECT_EQ(read.scheme.layers[1].multipliers, (std::vector<int64_t>{11, 13}));
  EXPECT_EQ(read.scheme.layers[1].moduli, (std::vector<uint64_t>{5000}));
  ASSERT_EQ(read.layers.size(), 2u);
  EXPECT_EQ(read.layers[0].encoding.kind, RowEncodingKind::kFp8E4m3Ue8m0Block32);
  EXPECT_EQ(read.layers[0].encoding.dim, 256u);
  EXPECT_TRUE(read.layers[0].synthetic);
  ASSERT_EQ(read.layers[0].shards.size(), 2u);
  const ShardSpec& shard = read.layers[0].shards[1];
  EXPECT_EQ(shard.file, "b.rows");
  EXPECT_EQ(shard.checksum_file, "b.crc32c");
  EXPECT_EQ(shard.first_row, 8192u);
  EXPECT_EQ(shard.rows, 1808u);
  EXPECT_EQ(shard.block_rows, 1024u);
  EXPECT_EQ(shard.file_bytes, ShardFileBytes(1808, kRowBytes));
  EXPECT_EQ(shard.checksum_file_sha256, Sha256Hex("b"));
  EXPECT_EQ(read.TableBytes(), 15000u * kRowBytes);
  EXPECT_EQ(read.FindLayer(14), &read.layers[1]);
  EXPECT_EQ(read.FindLayer(2), nullptr);
}

TEST(ManifestTest, KeepsEveryEncodingAndThePolynomialKind) {
  const std::pair<RowEncoding, uint32_t> encodings[] = {
      {{RowEncodingKind::kOpaque, 0, 0}, 90},
      {{RowEncodingKind::kOpaque, 160, 0, "nvfp4_e4m3-16.v1"}, 90},
      {{RowEncodingKind::kOpaque, 160, 0.25f, "nvfp4"}, 90},
      {{RowEncodingKind::kBf16, 160, 0}, 320},
      {{RowEncodingKind::kFp16, 160, 0}, 320},
      {{RowEncodingKind::kFp32, 160, 0}, 640},
      {{RowEncodingKind::kFp8E4m3, 160, 0.03125f}, 160}};
  for (const auto& [encoding, row_bytes] : encodings) {
    Manifest manifest = Sample();
    manifest.scheme.token_map.reset();
    manifest.scheme.reset_token_id = 5;
    manifest.scheme.combine = Combine::kPolynomial;
    manifest.scheme.radix = 1000;
    for (LayerAddressing& layer : manifest.scheme.layers) layer.multipliers.clear();
    for (LayerTableSpec& layer : manifest.layers) {
      layer.encoding = encoding;
      layer.row_bytes = row_bytes;
      for (ShardSpec& s : layer.shards) s.file_bytes = ShardFileBytes(s.rows, row_bytes);
    }
    const absl::StatusOr<Manifest> read = FinishManifest(manifest);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->layers[0].encoding.kind, encoding.kind);
    EXPECT_EQ(read->layers[0].encoding.global_scale, encoding.global_scale);
    EXPECT_EQ(read->layers[0].encoding.label, encoding.label);
    EXPECT_EQ(EncodingName(read->layers[0].encoding),
              encoding.label.empty() ? Name(encoding.kind) : encoding.label);
    EXPECT_EQ(absl::StrContains(read->text, "label"), !encoding.label.empty());
    EXPECT_EQ(read->scheme.combine, Combine::kPolynomial);
    EXPECT_EQ(read->scheme.radix, 1000u);
    EXPECT_EQ(read->scheme.reset_token_id, 5u);
  }
}

struct BadManifest {
  const char* what;
  void (*spoil)(Manifest&);
  const char* message;
};

class BadManifestTest : public testing::TestWithParam<BadManifest> {};

TEST_P(BadManifestTest, IsRefusedNamingTheField) {
  Manifest manifest = Sample();
  GetParam().spoil(manifest);
  const absl::Status status = FinishManifest(manifest).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

const BadManifest kBad[] = {
    {"empty_name", [](Manifest& m) { m.name = ""; }, "name is"},
    {"slash_in_name", [](Manifest& m) { m.name = "a/b"; }, "name is"},
    {"family_empty", [](Manifest& m) { m.scheme.family = ""; }, "family is \"\""},
    {"family_control", [](Manifest& m) { m.scheme.family = "a\x1b[2J"; }, "a\\x1b[2J"},
    {"family_long", [](Manifest& m) { m.scheme.family = std::string(1 << 20, 'a'); },
     "(1048576 bytes)"},
    {"scheme", [](Manifest& m) { m.scheme.max_order = 0; }, "address_scheme: max_order is 0"},
    {"map_path", [](Manifest& m) { m.scheme.token_map->file = "../map"; }, "token_map.file"},
    {"map_digest", [](Manifest& m) { m.scheme.token_map->sha256[3] = 'G'; }, "token_map.sha256"},
    {"no_layers", [](Manifest& m) { m.layers.clear(); }, "there are 0 layers"},
    {"layer_missing", [](Manifest& m) { m.layers.pop_back(); }, "there are 1 layers"},
    {"layer_other", [](Manifest& m) { m.layers[1].layer = 15; }, "layers[1] is layer 15"},
    {"layers_swapped", [](Manifest& m) { std::swap(m.layers[0], m.layers[1]); },
     "layers[0] is layer 14"},
    {"rows", [](Manifest& m) { m.layers[0].rows = 9999; }, "layer 1: rows is 9999"},
    {"row_bytes_small", [](Manifest& m) { m.layers[0].row_bytes = 7; }, "row_bytes is 7"},
    {"row_bytes_large", [](Manifest& m) { m.layers[0].row_bytes = 4097; }, "row_bytes is 4097"},
    {"row_bytes_other", [](Manifest& m) { m.layers[0].row_bytes = 272; }, "are 264 bytes"},
    {"dim_zero", [](Manifest& m) { m.layers[0].encoding.dim = 0; }, "encoding.dim is 0"},
    {"dim_overflow", [](Manifest& m) { m.layers[0].encoding.dim = 0x80000000u; }, "encoding.dim"},
    {"dim_blocks", [](Manifest& m) { m.layers[0].encoding.dim = 257; }, "multiple of 32"},
    {"scale_unused", [](Manifest& m) { m.layers[0].encoding.global_scale = 1; }, "must be absent"},
    {"scale_missing",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kFp8E4m3, 264, 0};
     },
     "positive and finite"},
    {"scale_nan",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kFp8E4m3, 264,
                               std::numeric_limits<float>::quiet_NaN()};
     },
     "positive and finite"},
    {"scale_without_label",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kOpaque, 256, 0.5f};
     },
     "must be absent"},
    {"scale_negative",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kOpaque, 256, -0.5f, "nvfp4"};
     },
     "positive and finite"},
    {"label_of_a_kind", [](Manifest& m) { m.layers[0].encoding.label = "fp8"; },
     "encoding.label is \"fp8\", it must be absent"},
    {"label_no_name",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kOpaque, 256, 0, "a b\x1b"};
     },
     "encoding.label is \"a b\\x1b\""},
    {"label_names_a_kind",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kOpaque, 256, 0, "bf16"};
     },
     "encoding.label is \"bf16\", it must be another name"},
    {"label_names_the_last_kind",
     [](Manifest& m) {
       m.layers[0].encoding = {RowEncodingKind::kOpaque, 256, 0, "fp8_e4m3_ue8m0_block32"};
     },
     "must be another name"},
    {"no_shards", [](Manifest& m) { m.layers[0].shards.clear(); }, "hold 0 of its 10000 rows"},
    {"gap", [](Manifest& m) { m.layers[0].shards[1].first_row = 8193; }, "first_row is 8193"},
    {"overlap", [](Manifest& m) { m.layers[0].shards[1].first_row = 8191; }, "first_row is 8191"},
    {"shard_rows_zero", [](Manifest& m) { m.layers[0].shards[0].rows = 0; },
     "shards[0]: rows is 0"},
    {"shard_rows_over", [](Manifest& m) { m.layers[0].shards[1].rows = 1809; }, "1808 are left"},
    {"shard_rows_wrap", [](Manifest& m) { m.layers[0].shards[1].rows = ~uint64_t{0}; }, "are left"},
    {"last_missing", [](Manifest& m) { m.layers[0].shards.pop_back(); }, "hold 8192 of its 10000"},
    {"row_multiple",
     [](Manifest& m) {
       m.layers[0].shards[0].rows = m.layers[0].shards[1].first_row = 8191;
       m.layers[0].shards[1].rows = 1809;
     },
     "a multiple of 4096"},
    {"block_zero", [](Manifest& m) { m.layers[0].shards[0].block_rows = 0; }, "block_rows is 0"},
    {"block_large", [](Manifest& m) { m.layers[0].shards[0].block_rows = 1 << 17; }, "block_rows"},
    {"block_wrap", [](Manifest& m) { m.layers[0].shards[0].block_rows = ~0u; }, "block_rows"},
    {"file_bytes", [](Manifest& m) { m.layers[0].shards[0].file_bytes += 4096; }, "file_bytes is"},
    {"file_empty", [](Manifest& m) { m.layers[0].shards[0].file = ""; }, "file is"},
    {"file_absolute", [](Manifest& m) { m.layers[0].shards[0].file = "/etc/passwd"; }, "file is"},
    {"file_up", [](Manifest& m) { m.layers[0].shards[0].file = ".."; }, "file is"},
    {"file_nul", [](Manifest& m) { m.layers[0].shards[0].file = std::string("a\0b", 3); },
     "file is"},
    {"file_twice", [](Manifest& m) { m.layers[1].shards[0].file = "a.rows"; }, "another file"},
    {"file_manifest", [](Manifest& m) { m.layers[1].shards[0].file = kManifestFile; },
     "another file"},
    {"checksum_file", [](Manifest& m) { m.layers[0].shards[0].checksum_file = "b.rows"; },
     "another file"},
    {"digest", [](Manifest& m) { m.layers[0].shards[0].checksum_file_sha256.pop_back(); },
     "checksum_file_sha256"},
};

INSTANTIATE_TEST_SUITE_P(All, BadManifestTest, testing::ValuesIn(kBad),
                         [](const auto& info) { return std::string(info.param.what); });

std::string Replaced(absl::string_view from, absl::string_view to) {
  return absl::StrReplaceAll(FinishManifest(Sample()).value().text, {{from, to}});
}

TEST(ManifestTextTest, NamesSourceAndPlaceOfWhatIsNoManifest) {
  const std::pair<std::string, const char*> texts[] = {
      {"", "format_version is 0"},
      {Replaced("format_version: 1", "format_version: 2"), "format_version is 2"},
      {Replaced("XOR_OF_PRODUCTS", "COMBINE_UNSPECIFIED"), "combine"},
      {Replaced("XOR_OF_PRODUCTS", "77"), "combine"},
      {Replaced("FP8_E4M3_UE8M0_BLOCK32", "KIND_UNSPECIFIED"), "encoding.kind"},
      {Replaced("FP8_E4M3_UE8M0_BLOCK32", "99"), "encoding.kind"},
      {Replaced("row_bytes:", "row_bites:"), "row_bites"},
      {Replaced("row_bytes:", std::string(1 << 20, 'r') + ":"), " bytes)"},
      {Replaced("family: \"test\"", "family: \"\\377\""), "address_scheme: family is \"\\xff\""},
      {Replaced("rows: 10000", "rows: 18446744073709551616"), "line "},
      {Replaced("rows: 10000", "rows: -1"), "line "},
      {Replaced("name: \"sample-v1.0\"", "name: \"a\" name: \"b\""), "line "},
      {std::string(100, '\0'), "line "},
      {std::string(1000, '{'), "line "},
      {"layers { shards { file: \"a", "line "},
  };
  for (const auto& [text, message] : texts) {
    const absl::Status status = ParseManifest(text, "SOURCE").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith("SOURCE: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_LT(status.message().size(), 1000u);
  }
}

TEST(ManifestTextTest, RefusesATextThatIsTooLong) {
  const absl::Status status = ParseManifest(std::string(kMaxManifestBytes + 1, ' '), "S").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("16777217"));
}

// Every cut and many a damaged byte: a status, never a crash. What still parses must still be
// sound.
TEST(ManifestTextTest, SurvivesDamage) {
  const std::string text = FinishManifest(Sample()).value().text;
  for (size_t i = 0; i < text.size(); ++i) {
    (void)ParseManifest(absl::string_view(text).substr(0, i), "cut").ok();
    for (const char c : {'\0', '9', '{', '}', '"', '\xff'}) {
      std::string damaged = text;
      damaged[i] = c;
      const absl::StatusOr<Manifest> read = ParseManifest(damaged, "damaged");
      if (!read.ok()) continue;
      for (const LayerTableSpec& layer : read->layers) {
        uint64_t rows = 0;
        for (const ShardSpec& shard : layer.shards) rows += shard.rows;
        EXPECT_EQ(rows, layer.rows);
      }
    }
  }
}

class LoadManifestTest : public testing::Test {
 protected:
  LoadManifestTest() : dir_(std::filesystem::path(testing::TempDir()) / "manifest_test") {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    manifest_ = FinishManifest(Sample()).value();
    Write(kManifestFile, manifest_.text);
    Write(kManifestDigestFile, manifest_.id + "\n");
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }
  std::filesystem::path dir_;
  Manifest manifest_;
};

TEST_F(LoadManifestTest, LoadsWhatTheDigestNames) {
  const absl::StatusOr<Manifest> manifest = LoadManifest(dir_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->id, manifest_.id);
}

TEST_F(LoadManifestTest, CoversEveryByteOfTheDigestFile) {
  const std::string digest = manifest_.id + "\n";
  for (size_t i = 0; i < digest.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = digest;
      damaged[i] ^= static_cast<char>(1 << bit);
      Write(kManifestDigestFile, damaged);
      EXPECT_EQ(LoadManifest(dir_).status().code(), absl::StatusCode::kDataLoss) << i;
    }
  }
  for (const std::string& damaged : {digest.substr(0, 64), digest + "\n", std::string()}) {
    Write(kManifestDigestFile, damaged);
    EXPECT_EQ(LoadManifest(dir_).status().code(), absl::StatusCode::kDataLoss);
  }
  std::filesystem::remove(dir_ / kManifestDigestFile);
  EXPECT_EQ(LoadManifest(dir_).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(LoadManifestTest, CoversTheManifest) {
  std::string damaged = manifest_.text;
  damaged.back() ^= 1;
  Write(kManifestFile, damaged);
  const absl::Status status = LoadManifest(dir_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / kManifestFile));
}

TEST_F(LoadManifestTest, SaysWhereThereIsNoTableSet) {
  for (const std::filesystem::path& path : {dir_ / "none", dir_ / kManifestFile, dir_ / "empty"}) {
    if (path.filename() == "empty") std::filesystem::create_directory(path);
    const absl::Status status = LoadManifest(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
  }
}

}  // namespace
}  // namespace engram
