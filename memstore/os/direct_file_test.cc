#include "memstore/os/direct_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

absl::Span<const std::byte> Bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Over a file system with direct I/O (where the tests run, as a rule) and over one without it.
class DirectFileTest : public testing::TestWithParam<const char*> {
 protected:
  DirectFileTest() {
    const std::string base = GetParam()[0] == '/' ? GetParam() : testing::TempDir();
    dir_ = std::filesystem::path(base) / "engram_direct_file_test";
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  ~DirectFileTest() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
};

TEST_P(DirectFileTest, ReadsAnyRange) {
  std::string text(3 * kDirectAlignment + 77, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 + i / 251);
  std::ofstream(dir_ / "a", std::ios::binary) << text;
  const DirectReader reader = DirectReader::Open(dir_ / "a").value();
  EXPECT_EQ(reader.bytes(), text.size());
  PageBuffer buffer;
  for (const uint64_t offset : {0u, 1u, 4095u, 4096u, 5000u, 12288u, 12300u}) {
    for (const uint64_t length : {0u, 1u, 64u, 4096u, 5001u, 12365u}) {
      const auto read = reader.Read(offset, length, buffer);
      if (offset + length > text.size()) {
        EXPECT_EQ(read.status().code(), absl::StatusCode::kOutOfRange);
        continue;
      }
      ASSERT_TRUE(read.ok()) << read.status();
      ASSERT_EQ(read->size(), length);
      EXPECT_TRUE(std::equal(read->begin(), read->end(), Bytes(text).begin() + offset)) << offset;
    }
  }
  EXPECT_FALSE(reader.Read(~uint64_t{0}, 2, buffer).ok());
}

TEST_P(DirectFileTest, FillsPages) {
  std::ofstream(dir_ / "a") << std::string(kDirectAlignment, '0')
                            << std::string(2 * kDirectAlignment, '1');
  const DirectReader reader = DirectReader::Open(dir_ / "a").value();
  PageBuffer buffer;
  const absl::Span<std::byte> pages = buffer.Reserve(3 * kDirectAlignment);
  ASSERT_TRUE(reader.ReadPages(kDirectAlignment, pages.first(2 * kDirectAlignment)).ok());
  EXPECT_EQ(static_cast<char>(pages[0]), '1');
  EXPECT_EQ(static_cast<char>(pages[2 * kDirectAlignment - 1]), '1');
  EXPECT_EQ(reader.ReadPages(kDirectAlignment, pages).code(), absl::StatusCode::kOutOfRange);
}

// As on a file system that takes the flag and refuses the reads: memory that is not aligned as
// direct I/O asks is refused so too.
TEST_P(DirectFileTest, ReadsThroughTheCacheWhereADirectReadIsRefused) {
  std::string text(3 * kDirectAlignment, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 + i / 251);
  std::ofstream(dir_ / "a", std::ios::binary) << text;
  const DirectReader reader = DirectReader::Open(dir_ / "a").value();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      std::vector<std::byte> memory(text.size() + 1);
      const size_t odd = reinterpret_cast<uintptr_t>(memory.data()) % 2 == 0 ? 1 : 0;
      const absl::Span<std::byte> pages = absl::MakeSpan(memory).subspan(odd, text.size());
      const absl::Status status = reader.ReadPages(0, pages);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_TRUE(std::equal(pages.begin(), pages.end(), Bytes(text).begin()));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(DirectFileTest, SeesAFileThatWasCutOff) {
  std::ofstream(dir_ / "a") << std::string(3 * kDirectAlignment, 'x');
  const DirectReader reader = DirectReader::Open(dir_ / "a").value();
  std::filesystem::resize_file(dir_ / "a", kDirectAlignment + 10);
  PageBuffer buffer;
  EXPECT_EQ(reader.Read(0, 2 * kDirectAlignment, buffer).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_P(DirectFileTest, WritesPagesAnywhere) {
  const DirectWriter writer = DirectWriter::Create(dir_ / "a", 3 * kDirectAlignment).value();
  PageBuffer buffer;
  for (const char page : {'2', '0', '1'}) {
    absl::Span<std::byte> pages = buffer.Reserve(kDirectAlignment);
    std::memset(pages.data(), page, pages.size());
    ASSERT_TRUE(writer.Write((page - '0') * kDirectAlignment, pages).ok());
  }
  ASSERT_TRUE(writer.Sync().ok());
  EXPECT_EQ(ReadWholeFile(dir_ / "a", 1 << 20).value(), std::string(kDirectAlignment, '0') +
                                                            std::string(kDirectAlignment, '1') +
                                                            std::string(kDirectAlignment, '2'));
}

TEST_P(DirectFileTest, NeverOpensAFileThatIsThereForWriting) {
  std::ofstream(dir_ / "a") << "before";
  EXPECT_EQ(DirectWriter::Create(dir_ / "a", kDirectAlignment).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(std::filesystem::file_size(dir_ / "a"), 6u);
}

TEST_P(DirectFileTest, SaysThatTheDeviceIsFull) {
  const absl::Status status = DirectWriter::Create(dir_ / "a", uint64_t{1} << 52).status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(std::string(status.message()).find(dir_ / "a"), std::string::npos) << status;
}

INSTANTIATE_TEST_SUITE_P(All, DirectFileTest, testing::Values("temporary", "/dev/shm"),
                         [](const auto& info) { return info.index == 0 ? "Disk" : "Memory"; });

}  // namespace
}  // namespace engram
