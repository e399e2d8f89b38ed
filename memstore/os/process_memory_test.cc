#include "memstore/os/process_memory.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(ProcessMemory, OfTheKernelsText) {
  const MemoryOfProcess memory = ParseProcessMemory("5000 300 200 10 0 400 0\n", 4096);
  EXPECT_EQ(memory.virtual_bytes, 5000u * 4096);
  EXPECT_EQ(memory.resident_bytes, 300u * 4096);
  for (const char* other : {"", "x y", "5000", "5000 ", "-1 3", " 5 6"}) {
    EXPECT_EQ(ParseProcessMemory(other, 4096).virtual_bytes, 0u) << other;
    EXPECT_EQ(ParseProcessMemory(other, 4096).resident_bytes, 0u) << other;
  }
}

TEST(ProcessMemory, OfThisProcess) {
  const MemoryOfProcess memory = ReadProcessMemory();
  EXPECT_GT(memory.resident_bytes, 0u);
  EXPECT_GT(memory.virtual_bytes, memory.resident_bytes);
}

}  // namespace
}  // namespace engram
