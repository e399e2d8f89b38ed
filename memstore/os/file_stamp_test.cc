#include "memstore/os/file_stamp.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

FileStamp Stamp(const std::string& path) {
  const FileDescriptor file = OpenFile(path, O_RDONLY).value();
  return StampOf(file, path).value();
}

TEST(FileStampTest, ADifferenceOfAnyMemberIsSaid) {
  const FileStamp before{1, 2, 3, 4};
  EXPECT_EQ(WhatChanged(before, before), "");
  EXPECT_THAT(std::string(WhatChanged(before, {9, 2, 3, 4})), HasSubstr("another file"));
  EXPECT_THAT(std::string(WhatChanged(before, {1, 9, 3, 4})), HasSubstr("size"));
  EXPECT_THAT(std::string(WhatChanged(before, {1, 2, 9, 4})), HasSubstr("written"));
  EXPECT_THAT(std::string(WhatChanged(before, {1, 2, 3, 9})), HasSubstr("rights"));
}

TEST(FileStampTest, IsWhatTheFileSystemSays) {
  const fs::path path = fs::path(testing::TempDir()) / "file_stamp_test";
  std::ofstream(path) << "four";
  const timespec times[2] = {{1000, 7}, {1000, 7}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  struct stat stat;
  ASSERT_EQ(::stat(path.c_str(), &stat), 0);
  const FileStamp stamp = Stamp(path);
  EXPECT_EQ(stamp.number, stat.st_ino);
  EXPECT_EQ(stamp.bytes, 4);
  EXPECT_EQ(stamp.written_ns, 1000 * int64_t{1'000'000'000} + 7);
  EXPECT_EQ(stamp.changed_ns, stat.st_ctim.tv_sec * int64_t{1'000'000'000} + stat.st_ctim.tv_nsec);
  fs::remove(path);
}

TEST(FileStampTest, NamesTheFileThatChanged) {
  const fs::path path = fs::path(testing::TempDir()) / "file_stamp_test_2";
  std::ofstream(path) << "four";
  const FileStamp before = Stamp(path);
  EXPECT_TRUE(CheckUnchanged(path, before).ok());
  std::ofstream(path) << "fives";
  const absl::Status changed = CheckUnchanged(path, before);
  EXPECT_EQ(changed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(changed.message()), HasSubstr("file_stamp_test_2"));
  EXPECT_THAT(std::string(changed.message()), HasSubstr("another size"));
  fs::remove(path);
  EXPECT_EQ(CheckUnchanged(path, before).code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace engram
