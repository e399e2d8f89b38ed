#include "memstore/pack/row_runs.h"

#include <deque>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Four columns, 412 rows; the next greater table has 8 more at least.
const std::vector<uint64_t> kModuli = {100, 102, 104, 106};

// Tensors t0, t1, ... of so many rows, or the parts that ranks have of t in the files of these.
class Tensors {
 public:
  explicit Tensors(const std::vector<uint64_t>& rows, bool of_ranks = false) {
    for (const uint64_t count : rows) {
      const std::string name = absl::StrCat("t", places_.size());
      places_.push_back(
          {of_ranks ? "t" : name, name + ".safetensors", "U8", {count, 8}, 0, count * 8});
      pointers_.push_back(&places_.back());
    }
  }
  absl::Span<const TensorPlace* const> get() const { return pointers_; }

 private:
  std::deque<TensorPlace> places_;
  std::vector<const TensorPlace*> pointers_;
};

using Lay = absl::StatusOr<std::vector<RowRun>>;

// "t0:0+100 t1:100+12", or the message.
std::string Say(const Lay& runs) {
  if (!runs.ok()) return std::string(runs.status().message());
  std::string text;
  for (const RowRun& run : *runs) {
    absl::StrAppend(&text, text.empty() ? "" : " ", run.tensor->file.substr(0, 2), ":",
                    run.first_row, "+", run.rows);
  }
  return text;
}

std::string Pieces(const std::vector<uint64_t>& rows) {
  return Say(LayPieces(Tensors(rows).get(), kModuli, "next"));
}
std::string Ranks(const std::vector<uint64_t>& rows) {
  return Say(LayRanks(Tensors(rows, /*of_ranks=*/true).get(), kModuli));
}

TEST(RowRunsTest, LaysPiecesOfOneLengthButForTheLast) {
  EXPECT_EQ(Pieces({412}), "t0:0+412");
  EXPECT_EQ(Pieces({206, 206}), "t0:0+206 t1:206+206");
  EXPECT_EQ(Pieces({200, 200, 12}), "t0:0+200 t1:200+200 t2:400+12");
  EXPECT_EQ(Pieces({409, 3}), "t0:0+409 t1:409+3");
}

TEST(RowRunsTest, LeavesPaddingOut) {
  EXPECT_EQ(Pieces({419}), "t0:0+412");  // less than the next table has more
  EXPECT_EQ(Pieces({448}), "t0:0+412");  // a multiple of 64
  EXPECT_EQ(Pieces({512}), "t0:0+412");  // of 128
  EXPECT_EQ(Pieces({138, 138, 138}), "t0:0+138 t1:138+138 t2:276+136");
  EXPECT_EQ(Pieces({206, 206, 0, 0}), "t0:0+206 t1:206+206");
  EXPECT_EQ(Pieces({206, 206, 2}), "t0:0+206 t1:206+206");
  EXPECT_EQ(Pieces({206, 210}), "t0:0+206 t1:206+206");
  const Tensors tensors({206, 210});
  EXPECT_EQ(PaddingRows(tensors.get(), *LayPieces(tensors.get(), kModuli, "")), 4u);
}

// With other primes the same tensors would be another table: more rows than padding explains.
TEST(RowRunsTest, RefusesRowsOfAGreaterTable) {
  for (const std::vector<uint64_t>& rows : std::vector<std::vector<uint64_t>>{
           {421}, {211, 211}, {210, 213}, {206, 206, 206}, {412, 412}}) {
    EXPECT_THAT(Pieces(rows), HasSubstr("--rows-per-head")) << Pieces(rows);
    EXPECT_THAT(Pieces(rows), HasSubstr("412 rows in all"));
  }
}

TEST(RowRunsTest, NamesThePieceThatDoesNotFit) {
  // Though the sum would suffice.
  EXPECT_THAT(Pieces({100, 101, 100, 111}), HasSubstr("t1 in t1.safetensors is U8 [101, 8]"));
  EXPECT_THAT(Pieces({100, 99, 100, 113}), HasSubstr("t1 in t1.safetensors is U8 [99, 8]"));
  EXPECT_THAT(Pieces({100, 312}), HasSubstr("t1 in t1.safetensors is U8 [312, 8]"));
  EXPECT_THAT(Pieces({0, 412}), HasSubstr("t0 in t0.safetensors"));
  // Too short at the end: expected what is left.
  EXPECT_THAT(Pieces({200, 200, 11}), HasSubstr("expected [12, 8] or more"));
  EXPECT_THAT(Say(LayPieces(Tensors({411}).get(), kModuli, "")),
              HasSubstr("expected [412, 8] or more"));
  // One too few.
  const Lay lay = LayPieces(Tensors({103, 103, 103}).get(), kModuli, "next");
  EXPECT_EQ(lay.status().code(), absl::StatusCode::kNotFound);
  for (const char* part : {"lacks the tensor next", "are 4 pieces", "there are 3"}) {
    EXPECT_THAT(Say(lay), HasSubstr(part));
  }
  EXPECT_THAT(Pieces({100, 100, 50}), HasSubstr("t2 in t2.safetensors is U8 [50, 8]"));
}

TEST(RowRunsTest, LaysRanksByColumnsOrEvenly) {
  EXPECT_EQ(Ranks({202, 210}), "t0:0+202 t1:202+210");
  EXPECT_EQ(Ranks({100, 102, 104, 106}), "t0:0+100 t1:100+102 t2:202+104 t3:306+106");
  // Two columns each of the first two ranks of three: the third has none.
  EXPECT_EQ(Ranks({202, 210, 0}), "t0:0+202 t1:202+210");
  EXPECT_EQ(Ranks({206, 206}), "t0:0+206 t1:206+206");
  EXPECT_EQ(Ranks({103, 103, 103, 103}), "t0:0+103 t1:103+103 t2:206+103 t3:309+103");
  EXPECT_EQ(Ranks({138, 138, 138}), "t0:0+138 t1:138+138 t2:276+136");
}

TEST(RowRunsTest, RefusesRanksThatCanBeReadInTwoWays) {
  // 210 rows each: the rows cut evenly and padded, or columns padded to the longest rank.
  EXPECT_THAT(Ranks({210, 210}), HasSubstr("without tensor parallelism"));
  EXPECT_THAT(Ranks({210, 210}), HasSubstr("table of 412 rows was cut among 2 ranks: 210 each"));
  EXPECT_THAT(Ranks({412, 412}), HasSubstr("each of 2 ranks has the whole table"));
  EXPECT_THAT(Ranks({202, 209}), HasSubstr("t in t1.safetensors"));
  EXPECT_THAT(Ranks({201, 211}), HasSubstr("t in t1.safetensors"));
  EXPECT_THAT(Ranks({103, 103, 103}), HasSubstr("and there are 309 in 3 ranks"));
  // Parts of ranks are told from each other by their files, and are no pieces.
  const std::string other = Ranks({100, 101, 211});
  EXPECT_THAT(other, HasSubstr("t in t1.safetensors is U8 [101, 8], expected [100, 8] as that in "
                               "t0.safetensors is: the parts that ranks have of a table"));
  EXPECT_THAT(other, Not(HasSubstr("piece")));
}

// Whether pieces of `rows` rows are full, whose rows are ascending numbers but for `padding` at
// each one's end, of that byte, or with 'n' of more numbers; the last one may have another number
// of them.
std::string Full(const std::vector<uint64_t>& rows, uint64_t padding, char byte, uint64_t at_end,
                 PaddingFill fill = PaddingFill::kAnyRow) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "row_runs_test";
  std::deque<TensorPlace> places;
  std::vector<const TensorPlace*> pointers;
  std::string bytes;
  uint64_t number = 1;
  for (size_t i = 0; i < rows.size(); ++i) {
    places.push_back({absl::StrCat("t", i), path, "U8", {rows[i], 8}, bytes.size(), rows[i] * 8});
    pointers.push_back(&places.back());
    const uint64_t kept = rows[i] - (i + 1 < rows.size() ? padding : at_end);
    for (uint64_t row = 0; row < rows[i]; ++row, ++number) {
      bytes.append(row < kept || byte == 'n'
                       ? std::string(reinterpret_cast<const char*>(&number), 8)
                       : std::string(8, byte));
    }
  }
  std::ofstream(path) << bytes;
  const Lay runs = LayPieces(pointers, kModuli, "");
  if (!runs.ok()) return Say(runs);
  const absl::Status full = CheckPiecesAreFull(pointers, *runs, fill);
  const absl::StatusOr<bool> is_told = PaddingIsTold(pointers, *runs, fill);
  std::filesystem::remove(path);
  if (!full.ok()) return std::string(full.message());
  return is_told.value() ? "full" : "full, untold";
}

TEST(RowRunsTest, RefusesPiecesThatArePaddedEachByItself) {
  for (const char byte : {'\0', 'p'}) {
    EXPECT_THAT(Full({104, 104, 104, 104}, 1, byte, 1), HasSubstr("3 of the 3 pieces before"));
    EXPECT_THAT(Full({112, 112, 112, 112}, 9, byte, 9), HasSubstr("each piece can be padded"));
    EXPECT_THAT(Full({256, 256}, 50, byte, 50), HasSubstr("t0 in "));
  }
  // The last one is not padded, or the first ones are not: 412 rows in 5 pieces are 83, 83, 82, 82
  // and 82.
  EXPECT_THAT(Full({208, 206}, 2, '\0', 0), HasSubstr("cut the padding off"));
  EXPECT_THAT(Full({83, 83, 83, 83, 83}, 1, '\0', 1), HasSubstr("t3 in "));
  EXPECT_THAT(Full({104, 104, 104, 104}, 1, '\0', 1, PaddingFill::kZeros), HasSubstr("t2 in "));
}

TEST(RowRunsTest, TakesPaddingBehindTheLastRow) {
  EXPECT_EQ(Full({104, 104, 104, 104}, 0, '\0', 4), "full");
  EXPECT_EQ(Full({112, 112, 112, 112}, 0, 'p', 36), "full");
  EXPECT_EQ(Full({256, 256}, 0, '\0', 100), "full");
  EXPECT_EQ(Full({138, 138, 138}, 0, 'p', 2), "full");
  EXPECT_EQ(Full({206, 206}, 1, '\0', 1), "full");  // zeros, but no row too many
  EXPECT_EQ(Full({512}, 0, '\0', 100), "full");
  // As scales are: nothing tells these rows from padding.
  EXPECT_EQ(Full({104, 104, 104, 104}, 1, 'p', 1, PaddingFill::kZeros), "full, untold");
}

TEST(RowRunsTest, TellsWherePaddingLooksLikeRows) {
  EXPECT_EQ(Full({104, 104, 104, 104}, 0, 'n', 4), "full, untold");
  EXPECT_EQ(Full({256, 256}, 0, 'n', 100), "full, untold");
  EXPECT_EQ(Full({512}, 0, 'n', 100), "full");  // one piece has one reading
  EXPECT_EQ(Full({103, 103, 103, 103}, 0, 'n', 0), "full");
}

TEST(RowRunsTest, SurvivesSizesOfAnyFile) {
  const uint64_t huge = INT64_MAX;
  EXPECT_THAT(Pieces({huge, huge, huge}), HasSubstr("--rows-per-head"));
  EXPECT_THAT(Ranks({huge, huge, huge}), HasSubstr("whole table"));
  EXPECT_THAT(Pieces({1, huge, huge, huge}), HasSubstr("t1"));
}

}  // namespace
}  // namespace engram
