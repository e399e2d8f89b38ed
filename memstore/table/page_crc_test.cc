#include "memstore/table/page_crc.h"

#include <vector>

#include "gtest/gtest.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

// Against the checksums that each take a pass of their own.
TEST(PageCrcTest, IsThatOfTheWholeAndOfEachPage) {
  for (const size_t pages : {0u, 1u, 2u, 3u, 66u, 129u}) {
    std::vector<std::byte> bytes(pages * kShardPageBytes);
    uint32_t state = 1;
    for (std::byte& byte : bytes) byte = std::byte((state = state * 1664525 + 1013904223) >> 24);
    std::vector<uint32_t> each(pages);
    EXPECT_EQ(Crc32cOfPages(bytes, absl::MakeSpan(each)), Crc32c(bytes)) << pages;
    for (size_t i = 0; i < pages; ++i) {
      const auto page = absl::MakeConstSpan(bytes).subspan(i * kShardPageBytes, kShardPageBytes);
      EXPECT_EQ(each[i], Crc32c(page)) << i << " of " << pages;
    }
  }
}

}  // namespace
}  // namespace engram
