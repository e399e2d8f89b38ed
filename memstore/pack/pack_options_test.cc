#include "memstore/pack/pack_options.h"

#include <atomic>
#include <cstring>
#include <filesystem>

#include "gtest/gtest.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

// A set whose rows are zeros, to be written at `output`; counts the rows that were made.
absl::StatusOr<Manifest> Write(const fs::path& output, std::atomic<uint64_t>& rows,
                               const std::function<absl::Status()>& may_publish) {
  const Family& family = **FindFamily("qwen4-exp");
  PackOptions options;
  options.output = output;
  options.rows_per_head = 100;
  const PackScheme scheme = MakePackScheme(family, options).value();
  LayerTableSpec spec;
  spec.layer = 1;
  spec.rows = scheme.scheme.layers[0].Rows();
  spec.row_bytes = 320;
  spec.encoding = {RowEncodingKind::kBf16, 160, 0};
  const RowFillFactory zeros = [&rows]() -> RowFill {
    return [&rows](RowId, absl::Span<std::byte> out) {
      std::memset(out.data(), 0, out.size());
      rows += out.size() / 320;
      return absl::OkStatus();
    };
  };
  return WriteTableSet(family, options, scheme, {{spec, zeros}}, may_publish);
}

TEST(PackOptionsTest, ASetAppearsWhenItMay) {
  const fs::path dir = fs::path(testing::TempDir()) / "pack_options_test";
  fs::remove_all(dir);
  fs::create_directories(dir);
  std::atomic<uint64_t> rows{0};
  uint64_t rows_when_asked = 0;
  const absl::StatusOr<Manifest> refused = Write(dir / "set", rows, [&] {
    rows_when_asked = rows;
    return absl::DataLossError("the source is damaged");
  });
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(fs::is_empty(dir));
  const absl::StatusOr<Manifest> written =
      Write(dir / "set", rows, [] { return absl::OkStatus(); });
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_TRUE(fs::exists(dir / "set" / kManifestFile));
  EXPECT_EQ(rows_when_asked, written->layers[0].rows);
  fs::remove_all(dir);
}

// Which file, key or flag said how many is not known here.
TEST(PackOptionsTest, ATokenMapOfAnotherSizeIsRefusedWithBothSizes) {
  Family family = **FindFamily("deepseek-v4.1-flash");
  family.compressed_vocab_size = 5;
  family.token_map_sha256.clear();
  PackOptions options;
  options.output = fs::path(testing::TempDir()) / "pack_options_test_set";
  options.made_token_map = MadeMap{std::string(2 * sizeof(int32_t), '\0'), "map.i32"};
  const absl::Status status = MakePackScheme(family, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "the token map map.i32 has 1 compressed ids, expected 5: is it of the model's "
            "tokenizer?");
}

}  // namespace
}  // namespace engram
