#include "memstore/table/joined_rows.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kRows = 3000;

// Byte `byte` of row `row` of part `part`: no two neighbours are alike.
std::byte ByteOf(size_t part, RowId row, uint32_t byte) {
  return std::byte((row * 31 + byte * 7 + part * 101 + row / 256) & 0xff);
}

class JoinedRowsTest : public testing::Test {
 protected:
  JoinedRowsTest() : dir_(fs::path(testing::TempDir()) / "joined_rows_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }

  // A part in pieces that end at `ends`, each in a file of its own behind some bytes of no row.
  RowPart MakePart(size_t number, uint32_t row_bytes, const std::vector<uint64_t>& ends) {
    RowPart part;
    part.row_bytes = row_bytes;
    RowId row = 0;
    for (const uint64_t end : ends) {
      RowPiece piece;
      piece.file = dir_ / (std::to_string(number) + "-" + std::to_string(end));
      piece.offset = 8 + end % 7;
      piece.first_row = row;
      piece.rows = end - row;
      std::string bytes(piece.offset, '#');
      for (; row < end; ++row) {
        for (uint32_t byte = 0; byte < row_bytes; ++byte) {
          bytes.push_back(static_cast<char>(ByteOf(number, row, byte)));
        }
      }
      std::ofstream(piece.file, std::ios::binary) << bytes;
      part.pieces.push_back(piece);
    }
    return part;
  }

  static std::vector<std::byte> Want(const JoinedRows& rows, RowId first, uint64_t count) {
    std::vector<std::byte> want;
    for (RowId row = first; row < first + count; ++row) {
      for (size_t part = 0; part < rows.parts.size(); ++part) {
        for (uint32_t byte = 0; byte < rows.parts[part].row_bytes; ++byte) {
          want.push_back(ByteOf(part, row, byte));
        }
      }
    }
    return want;
  }

  fs::path dir_;
};

TEST_F(JoinedRowsTest, ReadsAnyRunOfRowsAcrossPieces) {
  JoinedRows rows;
  rows.parts.push_back(MakePart(0, 80, {1000, 2000, kRows}));
  rows.parts.push_back(MakePart(1, 10, {1, 1999, 2001, kRows}));
  rows.parts.push_back(MakePart(2, 1, {kRows}));
  EXPECT_EQ(rows.RowBytes(), 91u);
  JoinedRowReader reader(rows);
  for (const auto& [first, count] : std::vector<std::pair<RowId, uint64_t>>{
           {0, kRows}, {0, 1}, {999, 2}, {1998, 5}, {2999, 1}}) {
    std::vector<std::byte> out(count * rows.RowBytes());
    ASSERT_TRUE(reader.Read(first, absl::MakeSpan(out)).ok());
    EXPECT_EQ(out, Want(rows, first, count)) << first << " " << count;
  }
}

TEST_F(JoinedRowsTest, ReadsOnePart) {
  JoinedRows rows;
  rows.parts.push_back(MakePart(0, 264, {7, kRows}));
  JoinedRowReader reader(rows);
  std::vector<std::byte> out(20 * 264);
  ASSERT_TRUE(reader.Read(2, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, Want(rows, 2, 20));
}

TEST_F(JoinedRowsTest, NamesAFileThatIsCutOffOrGone) {
  JoinedRows rows;
  rows.parts.push_back(MakePart(0, 8, {1000, kRows}));
  fs::resize_file(rows.parts[0].pieces[1].file, 100);
  std::vector<std::byte> out(kRows * 8);
  {
    JoinedRowReader reader(rows);
    const absl::Status cut = reader.Read(0, absl::MakeSpan(out));
    EXPECT_EQ(cut.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(cut.message(), AllOf(HasSubstr("0-3000"), HasSubstr("cut off")));
  }
  fs::remove(rows.parts[0].pieces[1].file);
  JoinedRowReader reader(rows);
  const absl::Status gone = reader.Read(0, absl::MakeSpan(out));
  EXPECT_EQ(gone.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(gone.message(), HasSubstr("0-3000"));
}

}  // namespace
}  // namespace engram
