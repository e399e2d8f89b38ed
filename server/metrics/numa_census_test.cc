#include "server/metrics/numa_census.h"

#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(NumaCensus, AddsPagesOfAllSizesUpByNode) {
  std::istringstream text(
      "55e0 default file=/N9=1 mapped=10 N0=4 N1=6 kernelpagesize_kB=4\n"
      "7f00 interleave:0-1 anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=2048\n"
      "7f10 default\n"
      "7f20 default N=3 Nx=1 N1=y kernelpagesize_kB=4\n");
  EXPECT_THAT(CountBytesByNode(text),
              ElementsAre(Pair(0u, 4u * 4096 + (2u << 20)), Pair(1u, 6u * 4096 + (4u << 20))));
  std::istringstream nothing("");
  EXPECT_THAT(CountBytesByNode(nothing), IsEmpty());
}

TEST(NumaCensus, CountsNowAndThen) {
  FakeClock clock;
  int counted = 0;
  absl::Duration cost = absl::Milliseconds(1);
  NumaCensus census(&clock, [&] {
    clock.Advance(cost);
    return BytesByNode{{0, static_cast<uint64_t>(++counted)}};
  });
  EXPECT_THAT(census.Read(), IsEmpty());
  census.Refresh();
  census.Refresh();
  EXPECT_THAT(census.Read(), ElementsAre(Pair(0u, 1u)));
  clock.Advance(NumaCensus::kInterval);
  cost = absl::Seconds(1);
  census.Refresh();
  EXPECT_EQ(counted, 2);
  clock.Advance(NumaCensus::kInterval);
  census.Refresh();
  EXPECT_EQ(counted, 2);  // it took a second: not before a thousand of them are over
  clock.Advance(absl::Seconds(1000));
  census.Refresh();
  EXPECT_EQ(counted, 3);
}

}  // namespace
}  // namespace engram
