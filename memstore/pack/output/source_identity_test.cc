#include "memstore/pack/output/source_identity.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/file_stamp.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SourceIdentityTest : public testing::Test {
 protected:
  SourceIdentityTest() : dir_(fs::path(testing::TempDir()) / "source_identity_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    Write("header, then rows");
  }
  ~SourceIdentityTest() override { fs::remove_all(dir_); }

  // Always of one time, to the nanosecond, so that it alone tells nothing.
  void Write(const std::string& text, int64_t nanoseconds = 5) const {
    std::ofstream(dir_ / "a", std::ios::binary) << text;
    const timespec times[2] = {{1000, nanoseconds}, {1000, nanoseconds}};
    ASSERT_EQ(utimensat(AT_FDCWD, (dir_ / "a").c_str(), times, 0), 0);
  }
  std::string Identity() const { return SourceIdentity({rows_}).value(); }

  fs::path dir_;
  JoinedRows rows_{{{4, {{(dir_ / "a").string(), 8, 0, 2}}}}};
};

TEST_F(SourceIdentityTest, TellsAChangeOfAnyKind) {
  std::set<std::string> seen = {Identity()};
  EXPECT_FALSE(seen.insert(Identity()).second);
  Write("header, then rows and more");
  EXPECT_TRUE(seen.insert(Identity()).second) << "another size";
  rows_.parts[0].pieces[0].offset = 9;
  EXPECT_TRUE(seen.insert(Identity()).second) << "another place";
  rows_.parts[0].pieces[0].offset = 8;
  rows_.parts[0].pieces[0].first_row = 1;
  EXPECT_TRUE(seen.insert(Identity()).second) << "other rows";
  rows_.parts[0].pieces[0].first_row = 0;
  rows_.parts[0].row_bytes = 5;
  EXPECT_TRUE(seen.insert(Identity()).second) << "another width";
  rows_.parts[0].row_bytes = 4;
  fs::rename(dir_ / "a", dir_ / "b");
  fs::create_symlink("b", dir_ / "a");
  EXPECT_TRUE(seen.insert(Identity()).second) << "a link to another file";
}

// Its members are file_stamp_test's; the digest is of what stands before the first row alone.
TEST_F(SourceIdentityTest, HasTheFilesStampAndItsHeadersDigest) {
  const FileDescriptor file = OpenFile((dir_ / "a").string(), O_RDONLY).value();
  const FileStamp stamp = StampOf(file, "a").value();
  EXPECT_THAT(Identity(),
              HasSubstr(absl::StrCat(" ", stamp.number, " 17 ", stamp.written_ns, " ",
                                     stamp.changed_ns, " ", Sha256Hex("header, "), "\n")));
}

// A change of rights is told from one of bytes by nothing but reading all: it is named, no more.
TEST_F(SourceIdentityTest, SaysWhichFileChangedAndHow) {
  const std::string path = fs::canonical(dir_ / "a"), before = Identity();
  EXPECT_EQ(ChangedFile(before, before), "");
  const FileStamp stamp = StampOf(OpenFile(path, O_RDONLY).value(), path).value();
  const auto with = [&](const std::string& from, const std::string& to) {
    return absl::StrReplaceAll(before, {{from, to}});
  };
  EXPECT_EQ(ChangedFile(with(absl::StrCat(stamp.changed_ns), "7"), before),
            path + ": its bytes, rights, links or name changed at another time");
  EXPECT_EQ(ChangedFile(with(Sha256Hex("header, "), "x"), before),
            path + ": its header is another");
  Write("header, then rows and more");
  EXPECT_EQ(ChangedFile(before, Identity()), path + ": it has another size");
  // Whatever stands in a plan that was found.
  for (const std::string& other :
       {std::string(), std::string("a source"), std::string("file 99:a 1"), before.substr(0, 8),
        with("/a ", "/b "), with("file ", "file 9")}) {
    EXPECT_EQ(ChangedFile(other, before), "") << other;
  }
}

TEST_F(SourceIdentityTest, NamesAFileThatIsNotThere) {
  fs::remove(dir_ / "a");
  const absl::Status status = SourceIdentity({rows_}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr((dir_ / "a").string()));
}

}  // namespace
}  // namespace engram
