#include "memstore/store/available_memory.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint64_t kMib = 1 << 20;

// A file tree with the kernel's files in it.
class AvailableMemoryTest : public testing::Test {
 protected:
  AvailableMemoryTest() : root_(testing::TempDir() + "/available_memory") {
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:  8192 kB\nMemFree:  1 kB\nMemAvailable:  4096 kB\n");
  }
  ~AvailableMemoryTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  const std::string root_;
};

TEST_F(AvailableMemoryTest, IsTheMachinesWithoutGroups) {
  const AvailableMemory available = ReadAvailableMemory(root_);
  EXPECT_EQ(available.bytes, 4 * kMib);
  EXPECT_EQ(available.limited_by, "the machine's memory");
}

TEST_F(AvailableMemoryTest, TheLimitIsWhatThereWouldBeWithoutOthers) {
  AvailableMemory limit = ReadMemoryLimit(root_);
  EXPECT_EQ(limit.bytes, 8 * kMib);
  EXPECT_EQ(limit.limited_by, "the machine's memory");
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "3145728\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "2097152\n");
  Write("/sys/fs/cgroup/a/memory.max", "max\n");
  limit = ReadMemoryLimit(root_);
  EXPECT_EQ(limit.bytes, 3 * kMib);
  EXPECT_EQ(limit.limited_by, "the control group /a/b");
}

TEST_F(AvailableMemoryTest, HugePagesThatAreSetAside) {
  EXPECT_EQ(ReadReservedHugePageBytes(root_), 0u);
  Write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3\n");
  EXPECT_EQ(ReadReservedHugePageBytes(root_), 6 * kMib);
}

TEST_F(AvailableMemoryTest, IsLimitedByTheGroupWithoutItsCache) {
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "3145728\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "2097152\n");
  Write("/sys/fs/cgroup/a/b/memory.stat", "anon 5\ninactive_file 1048576\nactive_file 524288\n");
  const AvailableMemory available = ReadAvailableMemory(root_);
  EXPECT_EQ(available.bytes, 2 * kMib + kMib / 2);
  EXPECT_EQ(available.limited_by, "the control group /a/b");
}

TEST_F(AvailableMemoryTest, IsLimitedByAGroupAbove) {
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "0\n");
  Write("/sys/fs/cgroup/a/memory.max", "1048576\n");
  Write("/sys/fs/cgroup/a/memory.current", "1048000\n");
  const AvailableMemory available = ReadAvailableMemory(root_);
  EXPECT_EQ(available.bytes, 576u);
  EXPECT_EQ(available.limited_by, "the control group /a");
}

TEST_F(AvailableMemoryTest, KnowsTheFirstVersionSeenFromInsideAContainer) {
  Write("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/not/visible/here\n0::/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576\n");
  EXPECT_EQ(ReadAvailableMemory(root_).bytes, kMib);
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "9999999\n");
  EXPECT_EQ(ReadAvailableMemory(root_).bytes, 0u);
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(ReadAvailableMemory(root_).bytes, 4 * kMib);
}

TEST_F(AvailableMemoryTest, IsUnlimitedWhereNothingIsSaid) {
  EXPECT_EQ(ReadAvailableMemory(root_ + "/nothing").bytes, UINT64_MAX);
}

TEST(AvailableMemoryHereTest, IsSomething) {
  const AvailableMemory available = ReadAvailableMemory();
  EXPECT_GT(available.bytes, 0u);
  EXPECT_FALSE(available.limited_by.empty());
}

}  // namespace
}  // namespace engram
