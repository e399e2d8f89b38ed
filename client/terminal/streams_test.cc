#include "client/terminal/streams.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "gtest/gtest.h"

namespace engram::cli {
namespace {

class StreamsTest : public testing::Test {
 protected:
  StreamsTest() : dir_(std::filesystem::path(testing::TempDir()) / "streams_test") {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  std::string Path(const std::string& name) const { return dir_ / name; }
  void WriteText(const std::string& name, const std::string& text) {
    std::ofstream(Path(name), std::ios::binary) << text;
  }
  std::string ReadText(const std::string& name) {
    std::ifstream in(Path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  size_t Files() const { return std::distance(std::filesystem::directory_iterator(dir_), {}); }
  std::filesystem::path dir_;
};

absl::Span<const std::byte> Bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST_F(StreamsTest, AnOutputWithoutAPathIsRefused) {
  const auto status = OutputFile::Open("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("--output \"\" names no file"), std::string::npos);
}

TEST_F(StreamsTest, BytesDoNotGoToATerminalUnasked) {
  EXPECT_TRUE(CheckNotTerminal("file").ok());
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) GTEST_SKIP() << "there are no terminals here";
  ASSERT_EQ(grantpt(terminal), 0);
  ASSERT_EQ(unlockpt(terminal), 0);
  char name[64];
  ASSERT_EQ(ptsname_r(terminal, name, sizeof(name)), 0);
  const int side = open(name, O_RDWR | O_NOCTTY);
  ASSERT_GE(side, 0);
  std::fflush(stdout);
  const int kept = dup(STDOUT_FILENO);
  dup2(side, STDOUT_FILENO);
  const absl::Status unasked = CheckNotTerminal("-"), asked = CheckNotTerminal("/dev/stdout");
  dup2(kept, STDOUT_FILENO);
  for (const int fd : {kept, side, terminal}) close(fd);
  EXPECT_EQ(unasked.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(unasked.message()).find("--output FILE"), std::string::npos);
  EXPECT_TRUE(asked.ok());
}

TEST_F(StreamsTest, AnOutputOverItsInputIsRefused) {
  WriteText("in", "text");
  WriteText("other", "text");
  std::filesystem::create_symlink("in", Path("link"));
  std::filesystem::create_hard_link(Path("in"), Path("hard"));
  for (const char* output : {"in", "link", "hard", "./in"}) {
    const absl::Status status = CheckNotOverInput(Path(output), Path("in"), "--tokenizer");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << output;
    EXPECT_NE(std::string(status.message()).find("--tokenizer"), std::string::npos);
  }
  EXPECT_TRUE(CheckNotOverInput(Path("other"), Path("in"), "--tokenizer").ok());
  EXPECT_TRUE(CheckNotOverInput(Path("none"), Path("in"), "--tokenizer").ok());
  EXPECT_TRUE(CheckNotOverInput(Path("in"), Path("none"), "--tokenizer").ok());
  EXPECT_TRUE(CheckNotOverInput("-", "-", "--tokenizer").ok());
  EXPECT_TRUE(CheckNotOverInput("/dev/null", "/dev/null", "--tokenizer").ok());
}

TEST_F(StreamsTest, OutputAppearsWholeOrNotAtAll) {
  WriteText("out", "before");
  {
    auto out = OutputFile::Open(Path("out"));
    ASSERT_TRUE(out.ok());
    ASSERT_TRUE(out->Write(Bytes("half")).ok());
    EXPECT_EQ(ReadText("out"), "before");
  }
  EXPECT_EQ(ReadText("out"), "before");
  EXPECT_EQ(Files(), 1u);
  auto out = OutputFile::Open(Path("out"));
  ASSERT_TRUE(out.ok());
  ASSERT_TRUE(out->Write(Bytes("whole")).ok());
  ASSERT_TRUE(out->Commit().ok());
  EXPECT_EQ(ReadText("out"), "whole");
  EXPECT_EQ(Files(), 1u);
}

TEST_F(StreamsTest, WhatIsNotCommittedHasNoName) {
  const int probe = open(dir_.c_str(), O_TMPFILE | O_WRONLY, 0600);
  if (probe < 0) GTEST_SKIP() << "this file system has no files without a name";
  close(probe);
  auto out = OutputFile::Open(Path("out"));
  ASSERT_TRUE(out.ok());
  ASSERT_TRUE(out->Write(Bytes("half")).ok());
  EXPECT_EQ(Files(), 0u);
}

TEST_F(StreamsTest, ANewFileHasTheRightsOfAnOpenAndAnOldOneKeepsItsOwn) {
  const mode_t before = umask(027);
  ASSERT_TRUE(OutputFile::Open(Path("new"))->Commit().ok());
  WriteText("old", "x");
  ASSERT_EQ(chmod(Path("old").c_str(), 0604), 0);
  ASSERT_TRUE(OutputFile::Open(Path("old"))->Commit().ok());
  umask(before);
  struct stat stat;
  ASSERT_EQ(::stat(Path("new").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 07777, 0640u);
  ASSERT_EQ(::stat(Path("old").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 07777, 0604u);
}

TEST_F(StreamsTest, WritesThroughALinkAndRefusesOneToNothing) {
  WriteText("target", "before");
  std::filesystem::create_symlink("target", Path("link"));
  auto out = OutputFile::Open(Path("link"));
  ASSERT_TRUE(out.ok());
  ASSERT_TRUE(out->Write(Bytes("after")).ok());
  ASSERT_TRUE(out->Commit().ok());
  EXPECT_EQ(ReadText("target"), "after");
  EXPECT_TRUE(std::filesystem::is_symlink(Path("link")));
  std::filesystem::create_symlink("nothing", Path("dangling"));
  const auto status = OutputFile::Open(Path("dangling")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find(Path("dangling")), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_symlink(Path("dangling")));
  EXPECT_FALSE(std::filesystem::exists(Path("nothing")));
}

TEST_F(StreamsTest, WritesSpecialFilesDirectly) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = ReadText("pipe"); });
  auto out = OutputFile::Open(Path("pipe"));
  ASSERT_TRUE(out.ok());
  ASSERT_TRUE(out->Write(Bytes("through")).ok());
  ASSERT_TRUE(out->Commit().ok());
  reader.join();
  EXPECT_EQ(got, "through");
  EXPECT_EQ(Files(), 1u);
  EXPECT_TRUE(OutputFile::Open("/dev/null")->Commit().ok());
}

TEST_F(StreamsTest, NamesAPlaceThatCannotBeWritten) {
  const auto status = OutputFile::Open(Path("none/out")).status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(std::string(status.message()).find(Path("none/out")), std::string::npos);
}

}  // namespace
}  // namespace engram::cli
