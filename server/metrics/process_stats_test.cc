#include "server/metrics/process_stats.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::Gt;

TEST(ProcessStats, ReadsWhatTheKernelWrites) {
  ProcessStats stats;
  ParseProcStat(
      "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 1200 0 3 0 250 50 0 0 20 0 17 0 900 1000000 300 "
      "18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n",
      100, &stats);
  EXPECT_DOUBLE_EQ(stats.cpu_seconds, 3);
  EXPECT_EQ(stats.threads, 17u);
  ParseMeminfo(
      "MemTotal:       16384000 kB\nHugePages_Total:      40\nHugePages_Free:       14\n"
      "HugePages_Rsvd:        0\nHugepagesize:       2048 kB\n",
      &stats);
  EXPECT_EQ(stats.huge_pages.total_bytes, 40u << 21);
  EXPECT_EQ(stats.huge_pages.free_bytes, 14u << 21);
}

TEST(ProcessStats, WhatCannotBeReadStaysNothing) {
  ProcessStats stats;
  ParseProcStat("", 100, &stats);
  ParseProcStat("1 (x) S 1", 100, &stats);
  ParseMeminfo("HugePages_Total:\n\nx", &stats);
  EXPECT_EQ(stats.cpu_seconds, 0);
  EXPECT_EQ(stats.threads, 0u);
  EXPECT_EQ(stats.huge_pages.total_bytes, 0u);
}

TEST(ProcessStats, OfThisProcess) {
  const ProcessStats stats = ReadProcessStats();
  EXPECT_THAT(stats.resident_bytes, Gt(0u));
  EXPECT_THAT(stats.virtual_bytes, Gt(stats.resident_bytes));
  EXPECT_THAT(stats.threads, Gt(0u));
  EXPECT_THAT(stats.open_files, Gt(2u));
  EXPECT_THAT(stats.most_open_files, Gt(uint64_t{stats.open_files}));
}

}  // namespace
}  // namespace engram
