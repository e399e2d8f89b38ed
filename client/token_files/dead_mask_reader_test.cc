#include "client/token_files/dead_mask_reader.h"

#include "client/token_files/testing/file_test.h"
#include "gmock/gmock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Marks = std::vector<uint8_t>;

class DeadMaskReaderTest : public FileTest {
 protected:
  absl::StatusOr<Marks> All(const std::string& file) {
    auto reader = DeadMaskReader::Open(Write("mask", file));
    if (!reader.ok()) return reader.status();
    Marks marks(100);
    const absl::StatusOr<size_t> got = reader->Read(marks.data(), marks.size());
    if (!got.ok()) return got.status();
    marks.resize(*got);
    return marks;
  }
  std::string Refusal(const std::string& file) {
    const absl::Status status = All(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path("mask")));
    return std::string(status.message());
  }
};

TEST_F(DeadMaskReaderTest, ReadsBytesAndArrays) {
  for (const Marks& marks : {Marks{}, Marks{0, 1, 1, 0}, Marks{1, 1}, Marks{255, 255, 255},
                             Marks{255, '1', 254}, Marks{0, '1', '1'}, Marks(99, 128)}) {
    EXPECT_EQ(All(Raw(marks)).value(), marks);
    for (const std::string type : {"|b1", "|u1", "|i1"}) {
      EXPECT_EQ(All(Npy(type, marks)).value(), marks);
    }
  }
}

TEST_F(DeadMaskReaderTest, TextIsRefused) {
  for (const std::string text : {"0", "0101", "0 1 0 1\n", "0\n1\n", "true false", "0,1"}) {
    EXPECT_THAT(Refusal(text), AllOf(HasSubstr("is text"), HasSubstr("raw bytes"))) << text;
  }
  EXPECT_THAT(Refusal("[0, 1]"), HasSubstr("is JSON"));
}

TEST_F(DeadMaskReaderTest, OtherArraysAreRefused) {
  EXPECT_THAT(Refusal(Npy("<i4", std::vector<int32_t>{1})), HasSubstr("array of '<i4'"));
  const std::string whole = Npy("|u1", Marks{0, 1, 0});
  EXPECT_THAT(Refusal(whole.substr(0, whole.size() - 1)), HasSubstr("cut off"));
  EXPECT_THAT(Refusal(whole + '\0'), HasSubstr("more than the marks"));
}

}  // namespace
}  // namespace engram
