#include "memstore/shm/held_tables.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

const std::vector<WholeTable>& Whole() {
  static const auto* const kWhole = new std::vector<WholeTable>{{1000, 16}, {50, 264}};
  return *kWhole;
}

std::vector<HeldTable> Some() {
  return {{.rows = {1000, {{0, 100}, {600, 200}}}, .pieces = {{0, 4096}, {8192, 8192}}},
          {.rows = {50, {}}, .pieces = {}}};
}

absl::StatusCode Read(absl::string_view bytes) {
  return ReadHeldTables(bytes, Whole()).status().code();
}

TEST(HeldTablesTest, AreReadAsTheyWereWritten) {
  const auto read = ReadHeldTables(WriteHeldTables(Some()), Whole());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, Some());
}

TEST(HeldTablesTest, CutOffOrLongerTheyAreRefused) {
  const std::string bytes = WriteHeldTables(Some());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(Read(bytes.substr(0, size)), absl::StatusCode::kDataLoss) << size;
  }
  EXPECT_EQ(Read(bytes + std::string(8, '\0')), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read(bytes + "x"), absl::StatusCode::kDataLoss);
}

TEST(HeldTablesTest, CountsOfAnySizeAreRefused) {
  for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 63, UINT64_MAX}) {
    for (const size_t at : {0, 8}) {
      std::string bytes = WriteHeldTables(Some());
      bytes.replace(at, sizeof(count), reinterpret_cast<const char*>(&count), sizeof(count));
      EXPECT_EQ(Read(bytes), absl::StatusCode::kDataLoss) << count;
    }
  }
}

// Who maps them reads no row that has no memory.
TEST(HeldTablesTest, RowsWithoutMemoryAreRefused) {
  const auto read = [](std::vector<RowRange> ranges, std::vector<MemoryPiece> pieces) {
    const std::vector<HeldTable> tables = {
        {.rows = {1000, std::move(ranges)}, .pieces = std::move(pieces)},
        {.rows = {50, {}}, .pieces = {}}};
    return Read(WriteHeldTables(tables));
  };
  EXPECT_EQ(read({{0, 256}}, {{0, 4096}}), absl::StatusCode::kOk);
  EXPECT_EQ(read({{0, 257}}, {{0, 4096}}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read({{256, 1}}, {{0, 4096}}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read({{255, 2}}, {{0, 4096}, {4096, 4096}}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read({{0, 1}}, {{4096, 4096}}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read({{0, 1}}, {{UINT64_MAX, UINT64_MAX}}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read({{999, 2}}, {{0, 1 << 20}}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read({{5, 1}, {0, 1}}, {{0, 4096}}), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace engram
