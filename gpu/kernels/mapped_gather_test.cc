#include "gpu/kernels/mapped_gather.h"

#include <random>
#include <vector>

#include "gpu/kernels/mapped_gather_loop.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

constexpr uint64_t kRows = 700;

struct Table {
  explicit Table(uint32_t row_bytes) : row_bytes(row_bytes), bytes(kRows * row_bytes) {
    SyntheticRows(3, 0, row_bytes, absl::MakeSpan(bytes));
  }
  GatherTable View() const { return {.base = bytes.data(), .rows = kRows, .row_bytes = row_bytes}; }
  uint32_t row_bytes;
  std::vector<std::byte> bytes;
};

std::vector<RowId> RandomIds(size_t count) {
  std::mt19937 random(5);
  std::vector<RowId> ids(count);
  for (RowId& id : ids) id = random() % kRows;
  return ids;
}

// What all threads of a kernel do, one after another.
template <typename Word>
bool GatherByThreads(const Table& table, const std::vector<RowId>& ids, uint32_t threads,
                     std::vector<std::byte>* rows) {
  bool good = true;
  for (uint32_t thread = 0; thread < threads; ++thread) {
    good &= GatherWords(reinterpret_cast<const Word*>(table.bytes.data()), kRows,
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

}  // namespace
}  // namespace engram
