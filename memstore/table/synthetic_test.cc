#include "memstore/table/synthetic.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/base/splitmix64.h"

namespace engram {
namespace {

// The rule's words by the book, for layer 14, row 123456789, words 0, 1 and 32.
TEST(SyntheticTest, HoldsTheRule) {
  std::vector<std::byte> row(264);
  SyntheticRow(14, 123456789, absl::MakeSpan(row));
  for (const uint64_t w : {0u, 1u, 32u}) {
    uint64_t v = (uint64_t{14} << 48) ^ (w << 40) ^ 123456789u;
    v += 0x9E3779B97F4A7C15;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EB;
    v ^= v >> 31;
    for (int byte = 0; byte < 8; ++byte) {
      EXPECT_EQ(static_cast<uint8_t>(row[w * 8 + byte]), static_cast<uint8_t>(v >> (8 * byte)));
    }
  }
}

// The first output of splitmix64 seeded with 0, as published: layer 0, row 0, word 0.
TEST(SyntheticTest, MixIsSplitMix64) { EXPECT_EQ(SplitMix64Mix(0), 0xE220A8397B1DCDAFu); }

TEST(SyntheticTest, CutsTheLastWordToTheRow) {
  std::vector<std::byte> whole(96), cut(90 + 1, std::byte{0x5A});
  SyntheticRow(3, 77, absl::MakeSpan(whole));
  SyntheticRow(3, 77, absl::MakeSpan(cut).first(90));
  EXPECT_EQ(std::memcmp(whole.data(), cut.data(), 90), 0);
  EXPECT_EQ(cut[90], std::byte{0x5A});
}

TEST(SyntheticTest, ARunOfRowsIsEachRow) {
  for (const uint32_t row_bytes : {8u, 9u, 15u, 90u, 264u}) {
    std::vector<std::byte> rows(row_bytes * 5), row(row_bytes);
    SyntheticRows(1, 1000, row_bytes, absl::MakeSpan(rows));
    for (int i = 0; i < 5; ++i) {
      SyntheticRow(1, 1000 + i, absl::MakeSpan(row));
      EXPECT_EQ(std::memcmp(rows.data() + i * row_bytes, row.data(), row_bytes), 0);
    }
  }
}

TEST(SyntheticTest, TellsEveryOtherRowAndEveryFlippedBit) {
  for (const size_t row_bytes : {8u, 13u, 264u}) {
    std::vector<std::byte> row(row_bytes);
    SyntheticRow(1, 42, absl::MakeSpan(row));
    EXPECT_TRUE(IsSyntheticRow(1, 42, row));
    EXPECT_FALSE(IsSyntheticRow(1, 43, row));
    EXPECT_FALSE(IsSyntheticRow(2, 42, row));
    for (size_t bit = 0; bit < 8 * row_bytes; ++bit) {
      row[bit / 8] ^= std::byte{1} << (bit % 8);
      EXPECT_FALSE(IsSyntheticRow(1, 42, row)) << bit;
      row[bit / 8] ^= std::byte{1} << (bit % 8);
    }
  }
}

}  // namespace
}  // namespace engram
