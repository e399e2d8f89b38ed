#include "memstore/os/temporary_directory.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class TemporaryDirectoryTest : public testing::Test {
 protected:
  TemporaryDirectoryTest() : parent_(fs::path(testing::TempDir()) / "temporary_directory_test") {
    fs::remove_all(parent_);
    fs::create_directories(parent_);
    setenv("TMPDIR", parent_.c_str(), /*overwrite=*/1);
  }
  ~TemporaryDirectoryTest() override { fs::remove_all(parent_); }

  fs::path parent_;
};

TEST_F(TemporaryDirectoryTest, IsPrivateAndGoesWithAllThatIsInIt) {
  std::string path;
  {
    const auto made = TemporaryDirectory::Make("engramd");
    ASSERT_TRUE(made.ok()) << made.status();
    path = made->path();
    EXPECT_THAT(path, StartsWith((parent_ / "engramd-").string()));
    struct stat stat;
    ASSERT_EQ(::stat(path.c_str(), &stat), 0);
    EXPECT_EQ(stat.st_mode & 07777, 0700u);
    fs::create_directories(fs::path(path) / "a" / "b");
    std::ofstream(fs::path(path) / "a" / "b" / "c") << "text";
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(fs::is_empty(parent_));
}

TEST_F(TemporaryDirectoryTest, OneThatIsMovedStaysUntilTheLastGoes) {
  std::optional<TemporaryDirectory> kept;
  {
    auto made = TemporaryDirectory::Make("engramd");
    ASSERT_TRUE(made.ok()) << made.status();
    kept.emplace(*std::move(made));
  }
  EXPECT_TRUE(fs::is_directory(kept->path()));
  kept.reset();
  EXPECT_TRUE(fs::is_empty(parent_));
}

TEST_F(TemporaryDirectoryTest, APlaceThatIsNotThereIsNamed) {
  setenv("TMPDIR", "/nowhere/at/all", /*overwrite=*/1);
  const auto made = TemporaryDirectory::Make("engramd");
  EXPECT_EQ(made.status().code(), absl::StatusCode::kNotFound) << made.status();
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("/nowhere/at/all (TMPDIR)"));
}

TEST_F(TemporaryDirectoryTest, RemovingWhatIsNotThereIsNoError) { RemoveTree(parent_ / "none"); }

}  // namespace
}  // namespace engram
