#include "memstore/pack/output/staging_directory.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

// What the file system is made to lack; 0: nothing.
static std::atomic<int> flock_error{0};
static std::atomic<int> directory_sync_error{0};
// Directories that are synced before it shows.
static std::atomic<int> directory_syncs_left{0};
static std::atomic<int> no_replace_error{0};

// In place of the C library's.
extern "C" int flock(int fd, int operation) noexcept {
  if (flock_error == 0) return static_cast<int>(syscall(SYS_flock, fd, operation));
  errno = flock_error;
  return -1;
}
extern "C" int renameat2(int from_dir, const char* from, int to_dir, const char* to,
                         unsigned int flags) noexcept {
  if (no_replace_error == 0) {
    return static_cast<int>(syscall(SYS_renameat2, from_dir, from, to_dir, to, flags));
  }
  errno = no_replace_error;
  return -1;
}
extern "C" int fsync(int fd) {
  struct stat stat;
  if (directory_sync_error == 0 || fstat(fd, &stat) != 0 || !S_ISDIR(stat.st_mode) ||
      directory_syncs_left-- > 0) {
    return static_cast<int>(syscall(SYS_fsync, fd));
  }
  errno = directory_sync_error;
  return -1;
}

namespace engram {
namespace {

namespace fs = std::filesystem;

class StagingDirectoryTest : public testing::Test {
 protected:
  StagingDirectoryTest() : dir_(fs::path(testing::TempDir()) / "staging_directory_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~StagingDirectoryTest() override {
    flock_error = directory_sync_error = directory_syncs_left = no_replace_error = 0;
  }
  static void Fill(const StagingDirectory& staging) {
    std::ofstream(fs::path(staging.path()) / "file") << "text";
  }
  size_t Entries() const { return std::distance(fs::directory_iterator(dir_), {}); }
  fs::path dir_;
};

TEST_F(StagingDirectoryTest, AppearsWholeWhenPublished) {
  {
    StagingDirectory staging = StagingDirectory::Begin(dir_ / "out/").value();
    Fill(staging);
    EXPECT_FALSE(fs::exists(dir_ / "out"));
    ASSERT_TRUE(staging.Publish().ok());
  }
  EXPECT_TRUE(fs::exists(dir_ / "out" / "file"));
  EXPECT_EQ(Entries(), 1u);
}

TEST_F(StagingDirectoryTest, LeavesNothingWhenGivenUp) {
  Fill(StagingDirectory::Begin(dir_ / "out").value());
  EXPECT_EQ(Entries(), 0u);
}

TEST_F(StagingDirectoryTest, NeverReplacesWhatIsThere) {
  fs::create_directory(dir_ / "out");
  const absl::Status status = StagingDirectory::Begin(dir_ / "out").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(dir_ / "out"));
  // A link that leads nowhere is something, too.
  fs::create_symlink("nowhere", dir_ / "link");
  EXPECT_EQ(StagingDirectory::Begin(dir_ / "link").status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(StagingDirectoryTest, SaysWhatIsAbsentOrInTheWay) {
  absl::Status status = StagingDirectory::Begin(dir_ / "none" / "out").status();
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("make " + std::string(dir_ / "none")));
  std::ofstream(dir_ / ".file.partial") << "text";
  fs::create_directory_symlink(dir_, dir_ / ".link.partial");
  for (const std::string name : {"file", "link"}) {
    status = StagingDirectory::Begin(dir_ / name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("." + name + ".partial is where"));
  }
  EXPECT_EQ(Entries(), 2u);
}

TEST_F(StagingDirectoryTest, RefusesWhatAppearedMeanwhile) {
  StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
  Fill(staging);
  fs::create_directory(dir_ / "out");
  EXPECT_EQ(staging.Publish().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(fs::is_empty(dir_ / "out"));
}

TEST_F(StagingDirectoryTest, RefusesASecondWriter) {
  StagingDirectory first = StagingDirectory::Begin(dir_ / "out").value();
  Fill(first);
  EXPECT_EQ(StagingDirectory::Begin(dir_ / "out").status().code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(first.Publish().ok());
  EXPECT_TRUE(fs::exists(dir_ / "out" / "file"));
}

TEST_F(StagingDirectoryTest, HasWhatAKilledWriterLeft) {
  const pid_t child = fork();
  if (child == 0) {
    const StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
    Fill(staging);
    fs::create_directory(fs::path(staging.path()) / "sub");
    std::ofstream(fs::path(staging.path()) / "other") << "text";
    kill(getpid(), SIGKILL);
  }
  int ended;
  ASSERT_EQ(waitpid(child, &ended, 0), child);
  ASSERT_TRUE(WIFSIGNALED(ended));
  EXPECT_EQ(Entries(), 1u);
  EXPECT_FALSE(fs::exists(dir_ / "out"));
  StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
  EXPECT_TRUE(staging.resumable());
  ASSERT_TRUE(staging.RemoveAllBut({"file", "none"}).ok());
  EXPECT_EQ(std::distance(fs::directory_iterator(staging.path()), {}), 1);
  ASSERT_TRUE(staging.Publish().ok());
  EXPECT_TRUE(fs::exists(dir_ / "out" / "file"));
  EXPECT_EQ(Entries(), 1u);
}

TEST_F(StagingDirectoryTest, StaysWhereItIsToStay) {
  {
    StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
    Fill(staging);
    staging.set_stays(true);
  }
  StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
  EXPECT_TRUE(fs::exists(fs::path(staging.path()) / "file"));
}

// Several at once, one publishing while others open the same partial directory: one set is
// published, whole.
TEST_F(StagingDirectoryTest, OneOfManyAtOncePublishesAWholeSet) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> published{0};
    std::vector<std::thread> writers;
    for (int i = 0; i < 4; ++i) {
      writers.emplace_back([&] {
        // Until there is an output: a writer that meets another tries again.
        while (!fs::exists(dir_ / "out")) {
          absl::StatusOr<StagingDirectory> staging = StagingDirectory::Begin(dir_ / "out");
          if (!staging.ok()) continue;
          Fill(*staging);
          if (staging->Publish().ok()) ++published;
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    ASSERT_EQ(published, 1);
    ASSERT_TRUE(fs::exists(dir_ / "out" / "file")) << round;
    ASSERT_EQ(Entries(), 1u) << round;
    fs::remove_all(dir_ / "out");
  }
}

TEST_F(StagingDirectoryTest, DoesWithoutLocks) {
  for (const int error : {ENOSYS, EOPNOTSUPP, ENOLCK, EINVAL}) {
    flock_error = error;
    StagingDirectory first = StagingDirectory::Begin(dir_ / "out").value();
    Fill(first);
    // Nobody could go on with it: it doesn't stay.
    EXPECT_FALSE(first.resumable());
    first.set_stays(true);
    EXPECT_FALSE(first.stays());
    // Whether the first one still writes can't be told: what it has is not touched.
    const absl::Status second = StagingDirectory::Begin(dir_ / "out").status();
    EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(second.message()), testing::HasSubstr(first.path()));
    EXPECT_TRUE(fs::exists(fs::path(first.path()) / "file"));
    ASSERT_TRUE(first.Publish().ok());
    EXPECT_TRUE(fs::exists(dir_ / "out" / "file"));
    fs::remove_all(dir_ / "out");
    EXPECT_EQ(Entries(), 0u);
  }
  flock_error = EIO;
  EXPECT_FALSE(StagingDirectory::Begin(dir_ / "out").ok());
}

TEST_F(StagingDirectoryTest, DoesWithoutARenameThatReplacesNothing) {
  for (const int error : {EINVAL, ENOSYS}) {
    no_replace_error = error;
    StagingDirectory first = StagingDirectory::Begin(dir_ / "out").value();
    Fill(first);
    fs::create_directory(dir_ / "out");
    EXPECT_EQ(first.Publish().code(), absl::StatusCode::kAlreadyExists) << error;
    EXPECT_TRUE(fs::is_empty(dir_ / "out"));
    fs::remove(dir_ / "out");
    EXPECT_TRUE(first.Publish().ok()) << error;
    EXPECT_TRUE(fs::exists(dir_ / "out" / "file"));
    fs::remove_all(dir_ / "out");
  }
  no_replace_error = EIO;
  EXPECT_FALSE(StagingDirectory::Begin(dir_ / "out").value().Publish().ok());
}

TEST_F(StagingDirectoryTest, DoesWithoutTheSyncOfADirectory) {
  for (const int error : {EINVAL, EOPNOTSUPP, ENOSYS}) {
    StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
    directory_sync_error = error;
    EXPECT_TRUE(staging.Publish().ok()) << error;
    EXPECT_TRUE(fs::exists(dir_ / "out"));
    fs::remove_all(dir_ / "out");
  }
  StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
  directory_sync_error = EIO;
  EXPECT_FALSE(staging.Publish().ok());
}

TEST_F(StagingDirectoryTest, SaysWhatIsThereWhenItsNameMayBeLost) {
  StagingDirectory staging = StagingDirectory::Begin(dir_ / "out").value();
  Fill(staging);
  directory_sync_error = EIO;
  directory_syncs_left = 1;  // its own; then its parent
  const absl::Status status = staging.Publish();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr((dir_ / "out").string() + " is there and whole"));
  EXPECT_TRUE(fs::exists(dir_ / "out" / "file"));
}

TEST_F(StagingDirectoryTest, NamesAnOutputThatCannotBe) {
  EXPECT_EQ(StagingDirectory::Begin(dir_ / "none" / "out").status().code(),
            absl::StatusCode::kNotFound);
  for (const char* path : {"", "/", ".", "..", "a/.."}) {
    EXPECT_FALSE(StagingDirectory::Begin(path).ok()) << path;
  }
}

TEST_F(StagingDirectoryTest, TakesARelativeName) {
  const fs::path before = fs::current_path();
  fs::current_path(dir_);
  ASSERT_TRUE(StagingDirectory::Begin("out").value().Publish().ok());
  fs::current_path(before);
  EXPECT_TRUE(fs::exists(dir_ / "out"));
}

}  // namespace
}  // namespace engram
