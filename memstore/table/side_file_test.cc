#include "memstore/table/side_file.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class SideFileTest : public testing::Test {
 protected:
  SideFileTest()
      : path_(fs::path(testing::TempDir()) / "side_file_test.side"),
        set_id_(Sha256Hex("a set")),
        other_id_(Sha256Hex("another set")) {
    fs::remove(path_);
  }
  absl::StatusOr<std::string> Read(uint64_t max_bytes = 1000) const {
    return ReadSideFile(path_, "provenance", set_id_, max_bytes);
  }
  void Change(size_t at, char to) const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(to);
  }
  // It names the file and says that the set does without it.
  static auto Refuses(const std::string& what) {
    return AllOf(HasSubstr("side_file_test.side"), HasSubstr(what), HasSubstr("may be deleted"));
  }
  const std::string path_, set_id_, other_id_;
};

TEST_F(SideFileTest, GivesBackWhatWasWritten) {
  for (const std::string& body :
       {std::string(), std::string("a\0b\n", 4), std::string(1000, 'x')}) {
    fs::remove(path_);
    ASSERT_TRUE(WriteSideFile(path_, "provenance", set_id_, body).ok());
    EXPECT_EQ(fs::file_size(path_), kSideFileHeadBytes + body.size());
    EXPECT_EQ(Read().value(), body);
  }
  EXPECT_EQ(WriteSideFile(path_, "provenance", set_id_, "").code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(SideFileTest, IsAbsentWithoutBeingDamaged) {
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SideFileTest, RefusesAnotherSetsAndAnotherKind) {
  ASSERT_TRUE(WriteSideFile(path_, "provenance", other_id_, "{}").ok());
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Read().status().message(),
              AllOf(Refuses("is of table set"), HasSubstr(other_id_), HasSubstr(set_id_)));
  fs::remove(path_);
  ASSERT_TRUE(WriteSideFile(path_, "links", set_id_, "{}").ok());
  EXPECT_THAT(Read().status().message(), Refuses("is of kind links, not of kind provenance"));
}

TEST_F(SideFileTest, LinksAreNotDoneWithout) {
  const std::string path = fs::path(testing::TempDir()) / kLinksFile;
  std::ofstream(path) << "nothing";
  const std::string message(ReadSideFile(path, "links", set_id_, 100).status().message());
  EXPECT_THAT(message, AllOf(HasSubstr(path), HasSubstr("link the table set again")));
  EXPECT_THAT(message, testing::Not(HasSubstr("deleted")));
  fs::remove(path);
}

TEST_F(SideFileTest, RefusesEveryChangedByte) {
  const std::string body = "{\"repository\": \"a/b\"}";
  ASSERT_TRUE(WriteSideFile(path_, "provenance", set_id_, body).ok());
  std::ifstream file(path_, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), {});
  for (size_t i = 0; i < whole.size(); ++i) {
    Change(i, static_cast<char>(whole[i] ^ 1));
    EXPECT_FALSE(Read().ok()) << "byte " << i << " was changed";
    EXPECT_THAT(Read().status().message(), Refuses("")) << i;
    Change(i, whole[i]);
  }
  EXPECT_TRUE(Read().ok());
}

TEST_F(SideFileTest, RefusesEveryOtherLength) {
  ASSERT_TRUE(WriteSideFile(path_, "provenance", set_id_, "0123456789").ok());
  EXPECT_EQ(Read(9).status().code(), absl::StatusCode::kResourceExhausted);
  fs::resize_file(path_, kSideFileHeadBytes + 11);
  EXPECT_THAT(Read().status().message(), Refuses("added to"));
  for (size_t bytes = kSideFileHeadBytes + 10; bytes-- > 0;) {
    fs::resize_file(path_, bytes);
    EXPECT_THAT(Read().status().message(), Refuses("cut off")) << bytes;
    EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss) << bytes;
  }
}

}  // namespace
}  // namespace engram
