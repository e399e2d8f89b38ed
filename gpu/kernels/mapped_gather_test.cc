#include "gpu/kernels/mapped_gather.h"

#include <random>
#include <vector>

#include "gpu/kernels/mapped_gather_loop.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

constexpr uint64_t kRows = 700;

// Rows first_row..first_row+kRows-1 of a table.
struct Table {
  explicit Table(uint32_t row_bytes, uint64_t first_row = 0)
      : row_bytes(row_bytes), first_row(first_row), bytes(kRows * row_bytes) {
    SyntheticRows(3, first_row, row_bytes, absl::MakeSpan(bytes));
  }
  GatherTable View() const {
    return {.base = bytes.data(), .rows = kRows, .row_bytes = row_bytes, .first_row = first_row};
  }
  uint32_t row_bytes;
  uint64_t first_row;
  std::vector<std::byte> bytes;
};

std::vector<RowId> RandomIds(size_t count, uint64_t first_row = 0) {
  std::mt19937 random(5);
  std::vector<RowId> ids(count);
  for (RowId& id : ids) id = first_row + random() % kRows;
  return ids;
}

// What all threads of a kernel do, one after another.
template <typename Word>
bool GatherByThreads(const Table& table, const std::vector<RowId>& ids, uint32_t threads,
                     std::vector<std::byte>* rows, absl::Span<const TableRowRange> columns = {}) {
  bool good = true;
  const GatherRows from{.held = {table.first_row, kRows},
                        .columns = columns.data(),
                        .column_count = static_cast<uint32_t>(columns.size())};
  for (uint32_t thread = 0; thread < threads; ++thread) {
    good &= GatherWords(reinterpret_cast<const Word*>(table.bytes.data()), from,
                        static_cast<uint32_t>(table.row_bytes / sizeof(Word)), ids.data(),
                        static_cast<uint32_t>(ids.size()), reinterpret_cast<Word*>(rows->data()),
                        thread, threads);
  }
  return good;
}

void ExpectRows(const Table& table, const std::vector<RowId>& ids,
                const std::vector<std::byte>& rows) {
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_TRUE(IsSyntheticRow(3, ids[i], {&rows[i * table.row_bytes], table.row_bytes})) << i;
  }
}

TEST(MappedGatherLoop, CopiesEveryWordOnceForAnyNumberOfThreads) {
  for (const uint32_t threads : {1u, 7u, 64u, 5000u}) {
    for (const size_t count : {1, 2, 33, 300}) {
      const std::vector<RowId> ids = RandomIds(count);
      const Table wide(264);
      std::vector<std::byte> rows(count * 264);
      EXPECT_TRUE(GatherByThreads<uint64_t>(wide, ids, threads, &rows));
      ExpectRows(wide, ids, rows);
      const Table odd(90);
      std::vector<std::byte> odd_rows(count * 90);
      EXPECT_TRUE(GatherByThreads<uint8_t>(odd, ids, threads, &odd_rows));
      ExpectRows(odd, ids, odd_rows);
    }
  }
}

TEST(MappedGatherLoop, DoesNotFollowAnIdThatIsOutOfRange) {
  const Table table(264);
  std::vector<RowId> ids = RandomIds(20);
  ids[11] = kRows;
  ids[12] = UINT64_MAX;
  std::vector<std::byte> rows(ids.size() * 264);
  EXPECT_FALSE(GatherByThreads<uint64_t>(table, ids, 64, &rows));
  for (size_t i : {11, 12}) {
    for (size_t b = 0; b < 264; ++b) ASSERT_EQ(rows[i * 264 + b], std::byte{0});
  }
}

// What a store holds of a table: ids are the whole table's, and one below or beyond what is held
// must not be read as one of its rows.
TEST(MappedGatherLoop, RowsFromTheFirstOneThatIsHeld) {
  constexpr uint64_t kFirst = 5000;
  const Table table(264, kFirst);
  std::vector<RowId> ids = RandomIds(300, kFirst);
  ids[0] = kFirst;
  ids[1] = kFirst + kRows - 1;
  std::vector<std::byte> rows(ids.size() * 264);
  EXPECT_TRUE(GatherByThreads<uint64_t>(table, ids, 64, &rows));
  ExpectRows(table, ids, rows);
  for (const RowId bad :
       {RowId{0}, RowId{17}, RowId{kFirst - 1}, RowId{kFirst + kRows}, RowId{UINT64_MAX}}) {
    std::vector<RowId> wrong = ids;
    wrong[7] = bad;
    rows.assign(rows.size(), std::byte{0});
    EXPECT_FALSE(GatherByThreads<uint64_t>(table, wrong, 64, &rows)) << bad;
    for (size_t b = 0; b < 264; ++b) ASSERT_EQ(rows[7 * 264 + b], std::byte{0}) << bad;
  }
}

TEST(MappedGatherLoop, AnIdOfAnotherColumnIsNotFollowed) {
  const Table table(264, 100);
  const std::vector<TableRowRange> columns = {{100, 50}, {150, 1}, {400, 400}};
  std::vector<RowId> ids;
  for (uint64_t token = 0; token < 20; ++token) {
    ids.insert(ids.end(), {100 + token, 150, 400 + 20 * token});
  }
  ids[57] = 149;
  ids[59] = 799;  // of its column, held
  std::vector<std::byte> rows(ids.size() * 264);
  EXPECT_TRUE(GatherByThreads<uint64_t>(table, ids, 64, &rows, columns));
  ExpectRows(table, ids, rows);
  const std::pair<size_t, RowId> wrongs[] = {{0, 150}, {0, 99},  {1, 149},  {1, 151}, {4, 400},
                                             {5, 399}, {5, 800}, {30, 401}, {59, 150}};
  for (const auto& [at, id] : wrongs) {
    std::vector<RowId> wrong = ids;
    wrong[at] = id;
    EXPECT_FALSE(GatherByThreads<uint64_t>(table, wrong, 7, &rows, columns)) << at << " " << id;
  }
}

TEST(MappedGather, GathersInTheHostStream) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  const auto stream = device->MakeStream("test").value();
  const Table table(160);
  std::vector<RowId> ids = RandomIds(500);
  std::vector<std::byte> rows(ids.size() * 160);
  uint32_t bad_ids = 0;
  const MappedGather gather{.table = table.View(),
                            .ids = ids.data(),
                            .count = static_cast<uint32_t>(ids.size()),
                            .rows = rows.data(),
                            .bad_ids = &bad_ids};
  ASSERT_TRUE(EnqueueMappedGather(gather, 8, *stream).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(bad_ids, 0u);
  ExpectRows(table, ids, rows);
  ids[499] = kRows;
  ASSERT_TRUE(EnqueueMappedGather(gather, 8, *stream).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(bad_ids, 1u);
}

TEST(MappedGather, TheHostStreamSeesWhatIsHeldAndWhichColumnAnIdIsOf) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  const auto stream = device->MakeStream("test").value();
  const Table table(160, 1000);
  const std::vector<TableRowRange> columns = {{1000, 300}, {1300, 300}};
  std::vector<std::byte> rows(4 * 160);
  const auto is_bad = [&](std::vector<RowId> ids, bool by_columns) {
    uint32_t bad_ids = 0;
    EXPECT_TRUE(EnqueueMappedGather({.table = table.View(),
                                     .ids = ids.data(),
                                     .count = static_cast<uint32_t>(ids.size()),
                                     .rows = rows.data(),
                                     .columns = by_columns ? columns.data() : nullptr,
                                     .column_count = 2,
                                     .bad_ids = &bad_ids},
                                    8, *stream)
                    .ok());
    EXPECT_TRUE(stream->Synchronize().ok());
    if (bad_ids == 0) ExpectRows(table, ids, rows);
    return bad_ids != 0;
  };
  EXPECT_FALSE(is_bad({1000, 1699, 1001, 1300}, false));
  EXPECT_TRUE(is_bad({1000, 999, 1001, 1300}, false));
  EXPECT_TRUE(is_bad({1000, 1700, 1001, 1300}, false));
  EXPECT_TRUE(is_bad({3, 1300, 1001, 1300}, false));
  EXPECT_FALSE(is_bad({1000, 1599, 1299, 1300}, true));
  EXPECT_TRUE(is_bad({1000, 1599, 1300, 1300}, true));
  EXPECT_TRUE(is_bad({1000, 1600, 1299, 1300}, true));
  EXPECT_TRUE(is_bad({1000, 1599, 1299, 1299}, true));
}

}  // namespace
}  // namespace engram
