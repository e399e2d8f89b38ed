#include "memstore/os/memfd.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/control_page.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;

absl::StatusOr<Mapping> MapPages(const FileDescriptor& memfd, uint64_t pages) {
  return MapSealed(memfd, kReadOnlySeals, Access::kRead, pages * kPage, pages * kPage, "the thing");
}

TEST(Memfd, ASealedCopyIsReadAndNothingElse) {
  const auto memfd = SealedCopy("test", std::string(kPage, 'x'));
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  const auto mapping = MapPages(*memfd, 1);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  EXPECT_EQ(mapping->data()[kPage - 1], std::byte{'x'});
  EXPECT_NE(pwrite(memfd->get(), "y", 1, 0), 1);
  EXPECT_NE(ftruncate(memfd->get(), 0), 0);
}

// Whoever prints writes to 0, 1 or 2, whatever is there.
TEST(Memfd, ATableNeverHasAStandardStreamsNumber) {
  const int kept = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
  close(STDIN_FILENO);
  const auto memfd = CreateMemfd("test", kPage, MemfdPages::kAsTheKernelChooses);
  if (kept >= 0) dup2(kept, STDIN_FILENO);
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  EXPECT_GT(memfd->get(), STDERR_FILENO);
  EXPECT_EQ(fcntl(memfd->get(), F_GETFD), FD_CLOEXEC);
}

// A file that can still shrink would end a reader with SIGBUS.
TEST(Memfd, EverySealIsAskedFor) {
  for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL}) {
    const auto memfd = CreateMemfd("test", kPage, MemfdPages::kAsTheKernelChooses);
    ASSERT_TRUE(memfd.ok()) << memfd.status();
    ASSERT_TRUE(AddSeals(*memfd, kReadOnlySeals & ~missing).ok());
    const absl::Status status = MapPages(*memfd, 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << missing;
    EXPECT_THAT(std::string(status.message()), HasSubstr("the thing"));
  }
}

TEST(Memfd, AFileOnDiskIsRefused) {
  const auto file = OpenFile(::testing::TempDir() + "/memfd_test", O_RDWR | O_CREAT);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(ftruncate(file->get(), kPage), 0);
  EXPECT_EQ(MapPages(*file, 1).status().code(), absl::StatusCode::kDataLoss);
}

TEST(Memfd, AnotherSizeIsRefused) {
  const auto memfd = SealedCopy("test", std::string(2 * kPage, 'x'));
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  EXPECT_TRUE(MapPages(*memfd, 2).ok());
  EXPECT_EQ(MapPages(*memfd, 1).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(MapPages(*memfd, 3).status().code(), absl::StatusCode::kDataLoss);
}

absl::StatusOr<Mapping> MapPieces(const FileDescriptor& memfd, uint64_t pages,
                                  const std::vector<MemoryPiece>& pieces) {
  return MapSealedPieces(memfd, kReadOnlySeals, pages * kPage, pieces, "the thing");
}

// Asks the kernel to read it, which says no where we would be ended.
bool Readable(const std::byte* page) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const bool readable = write(ends[1], page, 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return readable;
}

TEST(Memfd, PiecesLieBackToBackInTheFileAndApartInMemory) {
  const auto memfd = SealedCopy("test", std::string(kPage, 'x') + std::string(2 * kPage, 'y'));
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  const auto mapping = MapPieces(*memfd, 10, {{kPage, kPage}, {5 * kPage, 2 * kPage}});
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  EXPECT_EQ(mapping->bytes(), 10 * kPage);
  EXPECT_EQ(mapping->data()[kPage], std::byte{'x'});
  EXPECT_EQ(mapping->data()[5 * kPage], std::byte{'y'});
  EXPECT_EQ(mapping->data()[7 * kPage - 1], std::byte{'y'});
  for (const uint64_t page : {0, 2, 3, 4, 7, 8, 9}) {
    EXPECT_FALSE(Readable(mapping->data() + page * kPage)) << page;
  }
  EXPECT_TRUE(Readable(mapping->data() + 6 * kPage));
}

TEST(Memfd, PiecesThatAreNoneOfTheFileAreRefused) {
  const auto memfd = SealedCopy("test", std::string(2 * kPage, 'x'));
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  ASSERT_TRUE(MapPieces(*memfd, 4, {{0, kPage}, {2 * kPage, kPage}}).ok());
  const std::vector<std::vector<MemoryPiece>> wrong = {
      {},
      {{0, kPage}},                          // shorter than the file
      {{0, kPage}, {2 * kPage, 2 * kPage}},  // longer
      {{0, kPage}, {4 * kPage, kPage}},      // beyond the memory
      {{2 * kPage, kPage}, {0, kPage}},      // out of order
      {{0, 2 * kPage}, {kPage, kPage}},      // overlapping
      {{1, 2 * kPage}},                      // no whole pages
      {{0, kPage}, {kPage, 0}, {2 * kPage, kPage}},
      {{UINT64_MAX - kPage + 1, 2 * kPage}},
  };
  for (const std::vector<MemoryPiece>& pieces : wrong) {
    EXPECT_EQ(MapPieces(*memfd, 4, pieces).status().code(), absl::StatusCode::kDataLoss)
        << pieces.size();
  }
}

TEST(ControlPage, ShowsEveryAdvanceAndNeverGoesBack) {
  const std::string id(64, 'a');
  const auto page = ControlPage::Create(id);
  ASSERT_TRUE(page.ok()) << page.status();
  const auto view = ControlView::Map((*page)->memfd(), id);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->Read().state, TableSetState::kServing);
  EXPECT_EQ(view->Read().epoch, 0u);
  (*page)->Advance(TableSetState::kFenced);
  (*page)->Advance(TableSetState::kRetiring);
  EXPECT_EQ(view->Read().state, TableSetState::kFenced);
  EXPECT_EQ(view->Read().epoch, 1u);
}

TEST(ControlPage, OfAnotherSetIsRefused) {
  const auto page = ControlPage::Create(std::string(64, 'a'));
  ASSERT_TRUE(page.ok()) << page.status();
  const auto view = ControlView::Map((*page)->memfd(), std::string(64, 'b'));
  EXPECT_EQ(view.status().code(), absl::StatusCode::kDataLoss);
  const auto other = SealedCopy("test", std::string(kPage, 'x'));
  EXPECT_EQ(ControlView::Map(*other, std::string(64, 'x')).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(ControlPage, AClientCannotWriteIt) {
  const auto page = ControlPage::Create(std::string(64, 'a'));
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_FALSE(MapMemfd((*page)->memfd(), kControlPageBytes, Access::kReadWrite).ok());
  EXPECT_NE(pwrite((*page)->memfd().get(), "y", 1, 0), 1);
}

TEST(SetStates, SayWhatABatchIsTold) {
  EXPECT_TRUE(MayBegin(TableSetState::kServing, "s").ok());
  EXPECT_EQ(MayBegin(TableSetState::kRetiring, "s").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(MayBegin(TableSetState::kGone, "s").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MayBegin(TableSetState::kFenced, "s").code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(MayBegin(TableSetState{0}, "s").ok());
  EXPECT_TRUE(MayFinish(TableSetState::kRetiring, "s").ok());
  EXPECT_TRUE(MayFinish(TableSetState::kGone, "s").ok());
  EXPECT_EQ(MayFinish(TableSetState::kFenced, "s").code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace engram
