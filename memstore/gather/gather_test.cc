#include "memstore/gather/gather.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "memstore/gather/gather_kernels.h"

namespace engram {
namespace {

using gather_internal::BestInstructionSet;
using gather_internal::FindKernel;
using gather_internal::InstructionSet;
using gather_internal::LandingCursor;
using gather_internal::ListedPlaces;
using gather_internal::PrefetchDistance;

// `bytes` bytes that end where an unreadable page begins: one byte too far is a fault.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes) : bytes_(bytes) {
    const size_t page = sysconf(_SC_PAGESIZE);
    mapped_bytes_ = (bytes + page - 1) / page * page + page;
    mapped_ = static_cast<std::byte*>(
        mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(mprotect(mapped_ + mapped_bytes_ - page, page, PROT_NONE), 0);
    data_ = mapped_ + mapped_bytes_ - page - bytes;
  }
  ~GuardedBytes() { munmap(mapped_, mapped_bytes_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  size_t bytes_;
  size_t mapped_bytes_;
  std::byte* mapped_;
  std::byte* data_;
};

// Bytes that differ from their neighbours near and far.
void FillPattern(std::byte* data, size_t bytes) {
  uint64_t state = 88172645463325252;
  for (size_t i = 0; i < bytes; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    data[i] = static_cast<std::byte>(state >> 32);
  }
}

std::vector<InstructionSet> SetsHere() {
  std::vector<InstructionSet> sets = {InstructionSet::kSse2};
  if (BestInstructionSet() >= InstructionSet::kAvx2) sets.push_back(InstructionSet::kAvx2);
  if (BestInstructionSet() >= InstructionSet::kAvx512) sets.push_back(InstructionSet::kAvx512);
  return sets;
}

// Each width's last row ends at an unreadable page, and so does the landing buffer's last group.
template <typename Id>
void ExpectExactAtEveryWidth(InstructionSet set) {
  constexpr uint64_t kRows = 7;
  constexpr uint64_t kGroupRows = 3;
  constexpr std::byte kUntouched{0xA5};
  const std::vector<Id> ids = {6, 0, 3, 6, 1, 5, 6, 2, 4, 0, 6};
  const size_t groups = (ids.size() + kGroupRows - 1) / kGroupRows;
  for (uint32_t row_bytes = 8; row_bytes <= 4096; ++row_bytes) {
    SCOPED_TRACE(row_bytes);
    const GuardedBytes table_bytes(kRows * row_bytes);
    FillPattern(table_bytes.data(), table_bytes.size());
    const GatherTable table{table_bytes.data(), kRows, row_bytes};

    const size_t gap = row_bytes % 5;
    const size_t stride = kGroupRows * row_bytes + gap;
    const size_t landing_bytes =
        (groups - 1) * stride + (ids.size() - (groups - 1) * kGroupRows) * row_bytes;
    const GuardedBytes landing(landing_bytes);
    std::memset(landing.data(), static_cast<int>(kUntouched), landing_bytes);
    std::vector<std::byte> expected(landing_bytes, kUntouched);
    for (size_t i = 0; i < ids.size(); ++i) {
      std::memcpy(expected.data() + i / kGroupRows * stride + i % kGroupRows * row_bytes,
                  table.base + ids[i] * row_bytes, row_bytes);
    }

    FindKernel<Id>(set, row_bytes)(table, ids.data(), ids.size(),
                                   LandingCursor{landing.data(), kGroupRows, kGroupRows, gap}, 4);
    ASSERT_EQ(std::memcmp(landing.data(), expected.data(), landing_bytes), 0);

    // The same places, listed, of rows in another order.
    std::memset(landing.data(), static_cast<int>(kUntouched), landing_bytes);
    std::vector<Id> listed_ids(ids.size());
    std::vector<uint32_t> places(ids.size());
    for (uint32_t i = 0; i < ids.size(); ++i) {
      places[i] = (i * 7 + 3) % ids.size();
      listed_ids[i] = ids[places[i]];
    }
    FindKernel<Id, ListedPlaces>(set, row_bytes)(
        table, listed_ids.data(), ids.size(),
        ListedPlaces{landing.data(), places.data(), kGroupRows, stride}, 4);
    ASSERT_EQ(std::memcmp(landing.data(), expected.data(), landing_bytes), 0);
  }
}

TEST(GatherTest, EveryWidthIsExactWith32BitIds) {
  for (const InstructionSet set : SetsHere()) {
    SCOPED_TRACE(static_cast<int>(set));
    ExpectExactAtEveryWidth<uint32_t>(set);
  }
}

TEST(GatherTest, EveryWidthIsExactWith64BitIds) {
  for (const InstructionSet set : SetsHere()) {
    SCOPED_TRACE(static_cast<int>(set));
    ExpectExactAtEveryWidth<uint64_t>(set);
  }
}

// A row that is written must not touch the next one, which another thread may have written already.
TEST(GatherTest, ARowAloneLeavesItsNeighboursAlone) {
  constexpr size_t kMargin = 64;
  for (const InstructionSet set : SetsHere()) {
    for (uint32_t row_bytes = 8; row_bytes <= 600; ++row_bytes) {
      SCOPED_TRACE(row_bytes);
      std::vector<std::byte> table_bytes(size_t{2} * row_bytes);
      FillPattern(table_bytes.data(), table_bytes.size());
      std::vector<std::byte> landing(kMargin + row_bytes + kMargin, std::byte{0x5A});
      std::vector<std::byte> expected = landing;
      std::memcpy(expected.data() + kMargin, table_bytes.data() + row_bytes, row_bytes);
      const uint32_t id = 1;
      FindKernel<uint32_t>(set, row_bytes)({table_bytes.data(), 2, row_bytes}, &id, 1,
                                           LandingCursor{landing.data() + kMargin}, 16);
      ASSERT_EQ(landing, expected);
    }
  }
}

struct SmallTable {
  explicit SmallTable(uint64_t rows, uint32_t row_bytes) : bytes(rows * row_bytes) {
    FillPattern(bytes.data(), bytes.size());
    table = {bytes.data(), rows, row_bytes};
  }
  std::vector<std::byte> bytes;
  GatherTable table;
};

std::vector<uint64_t> SomeIds(size_t count, uint64_t rows) {
  std::vector<uint64_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = (i * 2654435761u + 17) % rows;
  return ids;
}

TEST(GatherTest, RowsLandBackToBackWithoutGroups) {
  const SmallTable small(1000, 264);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{5}, size_t{48}, size_t{3072}}) {
    SCOPED_TRACE(count);
    const std::vector<uint64_t> ids = SomeIds(count, small.table.rows);
    std::vector<std::byte> landing(count * 264);
    Gather<uint64_t>(small.table, ids, Landing{landing.data(), 0, 0});
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(std::memcmp(&landing[i * 264], small.table.base + ids[i] * 264, 264), 0) << i;
    }
  }
}

TEST(GatherTest, GroupsLandAtTheirStrideAndGapsStayUntouched) {
  const SmallTable small(1000, 90);
  constexpr size_t kGroup = 24;
  constexpr size_t kStride = kGroup * 90 + 40;
  const std::vector<uint64_t> ids = SomeIds(7 * kGroup, small.table.rows);
  std::vector<std::byte> landing(7 * kStride, std::byte{0xEE});
  Gather<uint64_t>(small.table, ids, Landing{landing.data(), kGroup, kStride});
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(std::memcmp(&landing[i / kGroup * kStride + i % kGroup * 90],
                          small.table.base + ids[i] * 90, 90),
              0)
        << i;
  }
  for (size_t group = 0; group < 7; ++group) {
    for (size_t at = kGroup * 90; at < kStride; ++at) {
      ASSERT_EQ(landing[group * kStride + at], std::byte{0xEE});
    }
  }
}

TEST(GatherTest, ListedRowsLandAtTheirPlaces) {
  const SmallTable small(1000, 110);
  const std::vector<uint64_t> ids = SomeIds(100, small.table.rows);
  std::vector<uint32_t> places(100);
  for (uint32_t i = 0; i < 100; ++i) places[i] = (i * 37 + 5) % 100 * 2;  // every other place
  // Without groups, in groups, and in one group that has more places than a list can name.
  for (const uint64_t group_rows : {uint64_t{0}, uint64_t{24}, uint64_t{1} << 33}) {
    SCOPED_TRACE(group_rows);
    std::vector<std::byte> bytes(200 * 110 + 200, std::byte{0xEE});
    std::vector<std::byte> expected = bytes;
    const Landing landing{bytes.data(), group_rows, group_rows * 110 + 20, places};
    for (size_t i = 0; i < ids.size(); ++i) {
      std::memcpy(expected.data() + (landing.PlaceOf(i, 110) - landing.data),
                  small.table.base + ids[i] * 110, 110);
    }
    for (size_t first = 0; first < ids.size(); first += 13) {
      GatherRange<uint64_t>(small.table, ids, first, std::min<size_t>(13, ids.size() - first),
                            landing);
    }
    EXPECT_EQ(bytes, expected);
  }
}

// Row 0 of such a table would lie far before its memory, or at no address at all.
TEST(GatherTest, PartOfATableIsReadByTheWholeTablesIds) {
  for (const uint64_t first_row : {uint64_t{1}, uint64_t{4000}, (uint64_t{1} << 63) - 1000}) {
    SCOPED_TRACE(first_row);
    SmallTable small(1000, 264);
    const std::vector<uint64_t> ids = SomeIds(300, small.table.rows);
    std::vector<std::byte> whole(300 * 264), part(300 * 264);
    Gather<uint64_t>(small.table, ids, Landing{whole.data()});
    std::vector<uint64_t> far(ids);
    for (uint64_t& id : far) id += first_row;
    small.table.first_row = first_row;
    Gather<uint64_t>(small.table, far, Landing{part.data()});
    EXPECT_EQ(whole, part);
    if (first_row > 5000) continue;
    std::fill(part.begin(), part.end(), std::byte{});
    const std::vector<uint32_t> narrow(far.begin(), far.end());
    Gather<uint32_t>(small.table, narrow, Landing{part.data()});
    EXPECT_EQ(whole, part);
  }
}

TEST(GatherTest, RangesTogetherAreTheWholeBatch) {
  const SmallTable small(500, 110);
  constexpr size_t kStride = 16 * 110 + 6;
  const std::vector<uint64_t> ids = SomeIds(100, small.table.rows);
  std::vector<std::byte> whole(7 * kStride, std::byte{1});
  std::vector<std::byte> parts = whole;
  Gather<uint64_t>(small.table, ids, Landing{whole.data(), 16, kStride});
  const Landing landing{parts.data(), 16, kStride};
  for (size_t first = 0; first < ids.size(); first += 13) {
    GatherRange<uint64_t>(small.table, ids, first, std::min<size_t>(13, ids.size() - first),
                          landing);
  }
  EXPECT_EQ(whole, parts);
}

TEST(GatherTest, TheDistanceIsNeverZero) {
  for (uint32_t row_bytes = 8; row_bytes <= 4096; ++row_bytes) {
    ASSERT_GE(PrefetchDistance(row_bytes), 1u);
  }
}

template <typename Id>
class CheckRowIdsTest : public testing::Test {};
using IdTypes = testing::Types<uint32_t, uint64_t>;
TYPED_TEST_SUITE(CheckRowIdsTest, IdTypes);

TYPED_TEST(CheckRowIdsTest, AcceptsAllThatAreBelowTheRows) {
  const GatherTable table{nullptr, 100, 264};
  EXPECT_TRUE(CheckRowIds<TypeParam>(table, {}).ok());
  std::vector<TypeParam> ids(1000, 99);
  ids[500] = 0;
  EXPECT_TRUE(CheckRowIds<TypeParam>(table, ids).ok());
}

TYPED_TEST(CheckRowIdsTest, NamesTheFirstBadIdWhereverItStands) {
  const GatherTable table{nullptr, 100, 264};
  for (size_t bad = 0; bad < 130; ++bad) {
    std::vector<TypeParam> ids(130, 7);
    ids[bad] = 100;
    ids.back() = std::max<TypeParam>(ids.back(), bad == 129 ? 100 : 200);
    const absl::Status status = CheckRowIds<TypeParam>(table, ids);
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(
        absl::StrContains(status.message(), "row id 100 at index " + std::to_string(bad) + " "))
        << status;
    ASSERT_TRUE(absl::StrContains(status.message(), "100 rows")) << status;
  }
}

TYPED_TEST(CheckRowIdsTest, RefusesTheLargestIdAndAnyIdOfAnEmptyTable) {
  const TypeParam largest = static_cast<TypeParam>(-1);
  EXPECT_FALSE(CheckRowIds<TypeParam>({nullptr, 100, 264}, std::vector<TypeParam>{largest}).ok());
  EXPECT_FALSE(CheckRowIds<TypeParam>({nullptr, 0, 264}, std::vector<TypeParam>{0}).ok());
  EXPECT_TRUE(CheckRowIds<TypeParam>({nullptr, 0, 264}, {}).ok());
}

TYPED_TEST(CheckRowIdsTest, APartOfATableHasItsOwnRowsAlone) {
  const GatherTable table{.rows = 100, .row_bytes = 264, .first_row = 5000};
  const auto check = [&](uint64_t id) {
    return CheckRowIds<TypeParam>(table, std::vector<TypeParam>{static_cast<TypeParam>(id)});
  };
  for (const uint64_t id : {5000, 5001, 5099}) EXPECT_TRUE(check(id).ok()) << id;
  for (const uint64_t id : {uint64_t{0}, uint64_t{99}, uint64_t{4999}, uint64_t{5100},
                            uint64_t{static_cast<TypeParam>(-1)}}) {
    const absl::Status status = check(id);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << id;
    EXPECT_TRUE(absl::StrContains(status.message(), "row id " + std::to_string(id) + " at index 0"))
        << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "rows 5000 to 5100")) << status;
  }
  const GatherTable none{.rows = 0, .row_bytes = 264, .first_row = 5000};
  EXPECT_FALSE(CheckRowIds<TypeParam>(none, std::vector<TypeParam>{5000}).ok());
}

TEST(CheckRowIdsWideTest, KnowsPartsThatReach32BitsOrBeginBeyond) {
  const std::vector<uint32_t> last = {UINT32_MAX};
  EXPECT_TRUE(CheckRowIds<uint32_t>({nullptr, 10, 264, UINT32_MAX}, last).ok());
  EXPECT_TRUE(CheckRowIds<uint32_t>({nullptr, uint64_t{1} << 40, 264, 7}, last).ok());
  EXPECT_FALSE(
      CheckRowIds<uint32_t>({nullptr, uint64_t{1} << 40, 264, 7}, std::vector<uint32_t>{6}).ok());
  EXPECT_FALSE(CheckRowIds<uint32_t>({nullptr, 10, 264, uint64_t{1} << 32}, last).ok());
  EXPECT_TRUE(CheckRowIds<uint32_t>({nullptr, 10, 264, uint64_t{1} << 32}, {}).ok());
  const uint64_t end = uint64_t{1} << 63;
  const GatherTable far{nullptr, 1000, 264, end - 1000};
  EXPECT_TRUE(CheckRowIds<uint64_t>(far, std::vector<uint64_t>{end - 1000, end - 1}).ok());
  for (const uint64_t id : {uint64_t{0}, end - 1001, end, end + 5, UINT64_MAX}) {
    EXPECT_FALSE(CheckRowIds<uint64_t>(far, std::vector<uint64_t>{id}).ok()) << id;
  }
}

TEST(CheckRowIdsWideTest, KnowsIdsAndTablesBeyond32Bits) {
  const uint64_t rows = (uint64_t{1} << 32) + 5;
  const GatherTable table{nullptr, rows, 264};
  EXPECT_TRUE(CheckRowIds<uint32_t>(table, std::vector<uint32_t>{UINT32_MAX}).ok());
  EXPECT_TRUE(CheckRowIds<uint64_t>(table, std::vector<uint64_t>{rows - 1}).ok());
  EXPECT_FALSE(CheckRowIds<uint64_t>(table, std::vector<uint64_t>{rows}).ok());
  EXPECT_FALSE(CheckRowIds<uint64_t>(table, std::vector<uint64_t>{uint64_t{1} << 63}).ok());
  EXPECT_TRUE(
      CheckRowIds<uint32_t>({nullptr, UINT32_MAX, 264}, std::vector<uint32_t>{UINT32_MAX - 1})
          .ok());
  EXPECT_FALSE(
      CheckRowIds<uint32_t>({nullptr, UINT32_MAX, 264}, std::vector<uint32_t>{UINT32_MAX}).ok());
}

}  // namespace
}  // namespace engram
