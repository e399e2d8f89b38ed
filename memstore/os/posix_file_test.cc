#include "memstore/os/posix_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace engram {
namespace {

class PosixFileTest : public testing::Test {
 protected:
  PosixFileTest() : dir_(std::filesystem::path(testing::TempDir()) / "posix_file_test") {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  std::string Path(const std::string& name) const { return dir_ / name; }
  std::filesystem::path dir_;
};

TEST_F(PosixFileTest, WritesANewFileAndReadsItWhole) {
  ASSERT_TRUE(WriteNewFileDurably(Path("a"), "twelve bytes").ok());
  EXPECT_EQ(ReadWholeFile(Path("a"), 12).value(), "twelve bytes");
  EXPECT_EQ(ReadWholeFile(Path("a"), 11).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(PosixFileTest, NeverWritesOverAFile) {
  ASSERT_TRUE(WriteNewFileDurably(Path("a"), "before").ok());
  EXPECT_EQ(WriteNewFileDurably(Path("a"), "after").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadWholeFile(Path("a"), 100).value(), "before");
}

TEST_F(PosixFileTest, NamesWhatIsNotThere) {
  const absl::Status status = ReadWholeFile(Path("none"), 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(status.message()).find(Path("none")), std::string::npos);
}

TEST_F(PosixFileTest, RefusesWhatIsNoRegularFileWithoutHanging) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadWholeFile(Path("pipe"), 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadWholeFile(dir_, 1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PosixFileTest, SaysWhereAFileEnds) {
  ASSERT_TRUE(WriteNewFileDurably(Path("a"), "0123456789").ok());
  const FileDescriptor file = OpenFile(Path("a"), O_RDONLY).value();
  std::byte bytes[8];
  EXPECT_TRUE(ReadFully(file, 2, bytes, "a").ok());
  EXPECT_EQ(static_cast<char>(bytes[0]), '2');
  const absl::Status status = ReadFully(file, 5, bytes, "a");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("ends at byte 10, 3 bytes early"), absl::string_view::npos)
      << status;
}

// Nothing is mapped at the address 0, which reads as an error of the device.
TEST_F(PosixFileTest, WhatTheDeviceCannotReadIsLost) {
  const FileDescriptor file = OpenFile("/proc/self/mem", O_RDONLY).value();
  std::byte bytes[8];
  const absl::Status status = ReadFully(file, 4096, bytes, "/proc/self/mem");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("/proc/self/mem at byte 4096"), absl::string_view::npos);
}

// A process without a descriptor left is no reason to think that a file is too long.
TEST_F(PosixFileTest, AFileThatIsTooLongIsToldFromAWantOfDescriptors) {
  ASSERT_TRUE(WriteNewFileDurably(Path("file"), "0123456789").ok());
  EXPECT_TRUE(IsFileTooLong(ReadWholeFile(Path("file"), 9).status()));
  EXPECT_FALSE(IsFileTooLong(ReadWholeFile(Path("none"), 9).status()));
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {0, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = ReadWholeFile(Path("file"), 10).status();
  setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_FALSE(IsFileTooLong(status)) << status;
  for (const std::string& part : {Path("file"), std::string("ulimit -n")}) {
    EXPECT_NE(std::string(status.message()).find(part), std::string::npos) << status;
  }
}

TEST_F(PosixFileTest, SaysWhatLimitsAFilesLength) {
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit low = {4096, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const absl::Status status = WriteNewFileDurably(Path("long"), std::string(10'000, 'x'));
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  EXPECT_FALSE(status.ok());
  for (const std::string& part : {Path("long"), std::string("ulimit -f")}) {
    EXPECT_NE(std::string(status.message()).find(part), std::string::npos) << status;
  }
}

TEST_F(PosixFileTest, SyncsADirectory) {
  EXPECT_TRUE(SyncDirectory(dir_).ok());
  EXPECT_EQ(SyncDirectory(Path("none")).code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace engram
