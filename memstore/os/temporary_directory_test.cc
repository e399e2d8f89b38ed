#include "memstore/os/temporary_directory.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

  // A tree with places for mounts, and a directory of somebody else's.
  void MakeTree() const {
    fs::create_directories(parent_ / "mine");
    std::ofstream(parent_ / "mine" / "file") << "text";
    fs::create_directories(parent_ / "tree" / "inner" / "mounted");
    std::ofstream(parent_ / "tree" / "inner" / "other") << "text";
  }
  // Removes the tree where "mine" is mounted at `place`; false where nothing may be mounted.
  bool RemoveTreeWithMountAt(const fs::path& place) const {
    constexpr int kMayNot = 77;
    const pid_t child = fork();
    if (child == 0) {
      // In mounts of its own, and where it is not root as root of a user namespace.
      const bool may =
          (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
          mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
          mount((parent_ / "mine").c_str(), place.c_str(), nullptr, MS_BIND, nullptr) == 0;
      if (!may) _exit(kMayNot);
      RemoveTree(parent_ / "tree");
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status) != kMayNot;
  }

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

class LeftOverTest : public TemporaryDirectoryTest {
 protected:
  // Of a process that ended without a word, with a file in it.
  static std::string Leave() {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto made = TemporaryDirectory::Make("engramd");
      const std::string path = made.ok() ? made->path() : "";
      std::ofstream(path + "/links") << "text";
      _exit(write(ends[1], path.data(), path.size()) == static_cast<ssize_t>(path.size()) ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    char path[4096];
    const ssize_t got = read(ends[0], path, sizeof(path));
    close(ends[0]);
    close(ends[1]);
    return got <= 0 ? "" : std::string(path, static_cast<size_t>(got));
  }
};

TEST_F(LeftOverTest, TheNextOneRemovesWhatAKilledProcessLeft) {
  const std::string left = Leave();
  ASSERT_TRUE(fs::exists(left + "/links")) << left;
  const auto other_stem = TemporaryDirectory::Make("other");
  EXPECT_TRUE(fs::exists(left));
  const auto made = TemporaryDirectory::Make("engramd");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(other_stem->path()));
}

TEST_F(LeftOverTest, WhatIsNobodysLeftoverStays) {
  const auto living = TemporaryDirectory::Make("engramd");
  const std::vector<fs::path> others = {parent_ / "engramd-config", parent_ / "engramd-tables2"};
  for (const fs::path& other : others) fs::create_directories(other / "mine");
  // Of another machine, to whose lock nothing here may see.
  const std::string elsewhere = Leave();
  for (const fs::directory_entry& entry : fs::directory_iterator(elsewhere)) {
    if (entry.path().filename() != "links") {
      std::ofstream(entry.path()) << "00000000-0000-0000-0000-000000000000\n";
    }
  }
  // A link to one that is left.
  const fs::path target = parent_ / "target";
  fs::rename(Leave(), target);
  fs::create_directory_symlink(target, parent_ / "engramd-abcdef");
  const auto made = TemporaryDirectory::Make("engramd");
  ASSERT_TRUE(living.ok() && made.ok());
  EXPECT_TRUE(fs::exists(living->path()));
  for (const fs::path& other : others) EXPECT_TRUE(fs::exists(other / "mine")) << other;
  EXPECT_TRUE(fs::exists(elsewhere + "/links"));
  EXPECT_TRUE(fs::exists(target / "links"));
}

TEST_F(TemporaryDirectoryTest, APlaceThatIsNotThereIsNamed) {
  setenv("TMPDIR", "/nowhere/at/all", /*overwrite=*/1);
  const auto made = TemporaryDirectory::Make("engramd");
  EXPECT_EQ(made.status().code(), absl::StatusCode::kNotFound) << made.status();
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("/nowhere/at/all (TMPDIR)"));
}

TEST_F(TemporaryDirectoryTest, WhatALinkLeadsToStays) {
  fs::create_directories(parent_ / "mine");
  std::ofstream(parent_ / "mine" / "file") << "text";
  fs::create_directories(parent_ / "tree" / "inner");
  fs::create_directory_symlink(parent_ / "mine", parent_ / "tree" / "inner" / "link");
  fs::create_symlink(parent_ / "nowhere", parent_ / "tree" / "dangling");
  RemoveTree(parent_ / "tree");
  EXPECT_FALSE(fs::exists(fs::symlink_status(parent_ / "tree")));
  EXPECT_TRUE(fs::exists(parent_ / "mine" / "file"));
}

// A bind mount of the same file system, which has the same device.
TEST_F(TemporaryDirectoryTest, WhatIsMountedInItStays) {
  MakeTree();
  if (!RemoveTreeWithMountAt(parent_ / "tree" / "inner" / "mounted")) {
    GTEST_SKIP() << "nothing may be mounted here";
  }
  EXPECT_TRUE(fs::exists(parent_ / "mine" / "file"));
  EXPECT_FALSE(fs::exists(parent_ / "tree" / "inner" / "other"));
  EXPECT_TRUE(fs::exists(parent_ / "tree" / "inner" / "mounted"));
}

TEST_F(TemporaryDirectoryTest, WhatIsMountedInItsPlaceStays) {
  MakeTree();
  if (!RemoveTreeWithMountAt(parent_ / "tree")) GTEST_SKIP() << "nothing may be mounted here";
  EXPECT_TRUE(fs::exists(parent_ / "mine" / "file"));
  EXPECT_TRUE(fs::exists(parent_ / "tree" / "inner" / "other"));
}

TEST_F(TemporaryDirectoryTest, RemovingWhatIsNotThereIsNoError) { RemoveTree(parent_ / "none"); }

}  // namespace
}  // namespace engram
