#include "client/token_files/byte_reader.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "client/token_files/testing/file_test.h"
#include "gmock/gmock.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

using ByteReaderTest = FileTest;

TEST_F(ByteReaderTest, WhatWasLookedAtIsReadAll) {
  std::string bytes;
  for (int i = 0; i < 200'000; ++i) bytes += static_cast<char>(i % 251);
  auto reader = ByteReader::Open(Write("file", bytes));
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::string read;
  for (const size_t step :
       {size_t{1}, size_t{5}, size_t{70'000}, size_t{100'000}, size_t{50'000}}) {
    const auto next = reader->Peek(step);
    ASSERT_TRUE(next.ok());
    EXPECT_GE(next->size(), std::min(step, bytes.size() - read.size()));
    EXPECT_EQ(*next, bytes.substr(read.size(), next->size()));
    std::string part(step, '\0');
    part.resize(reader->Read(part.data(), step).value());
    read += part;
  }
  EXPECT_EQ(read, bytes);
  EXPECT_EQ(reader->Peek(1).value(), "");
  char c = 0;
  EXPECT_EQ(reader->Read(&c, 1).value(), 0u);
}

TEST_F(ByteReaderTest, ALookWaitsForNoMoreThanItIsAskedFor) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  int answer[2];
  ASSERT_EQ(pipe(answer), 0);
  // It sends its second byte when the first one was seen.
  std::thread writer([&] {
    std::ofstream to(Path("pipe"), std::ios::binary);
    to << 'a' << std::flush;
    char seen = 0;
    EXPECT_EQ(read(answer[0], &seen, 1), 1);
    to << 'b';
  });
  auto reader = ByteReader::Open(Path("pipe"));
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->Peek(1).value(), "a");
  EXPECT_EQ(write(answer[1], "!", 1), 1);
  EXPECT_EQ(reader->Peek(2).value(), "ab");
  writer.join();
  close(answer[0]);
  close(answer[1]);
}

TEST_F(ByteReaderTest, NamesWhatCannotBeRead) {
  const absl::Status none = ByteReader::Open(Path("none")).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(none.message()), HasSubstr(Path("none")));
  const absl::Status directory = ByteReader::Open(Path(".")).status();
  EXPECT_EQ(directory.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(directory.message()), HasSubstr("is a directory"));
}

}  // namespace
}  // namespace engram
