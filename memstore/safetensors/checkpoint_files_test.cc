#include "memstore/safetensors/checkpoint_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/ascii.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CheckpointFilesTest : public testing::Test {
 protected:
  CheckpointFilesTest() : dir_(fs::path(testing::TempDir()) / "checkpoint_files_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~CheckpointFilesTest() override { fs::remove_all(dir_); }
  std::string Write(const std::string& name, const std::string& text = "x") const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << text;
    return dir_ / name;
  }
  // What is said of `path`: its code and a part of the message.
  static void ExpectSaid(const absl::Status& status, absl::StatusCode code,
                         const std::string& part) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  fs::path dir_;
};

TEST_F(CheckpointFilesTest, TakesADirectoryWithSafetensorsOrAnIndex) {
  Write("a/model.safetensors");
  Write("b/model.safetensors.index.json");
  EXPECT_TRUE(CheckCheckpointDirectory(dir_ / "a").ok());
  EXPECT_TRUE(CheckCheckpointDirectory(dir_ / "b").ok());
}

TEST_F(CheckpointFilesTest, SaysWhatElseItIs) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  const std::string gguf("GGUF\3\0\0\0", 8);
  ExpectSaid(CheckCheckpointDirectory(Write("a/model.safetensors")), kInvalid,
             "--checkpoint " + (dir_ / "a").string());
  ExpectSaid(CheckCheckpointDirectory(Write("a/model.safetensors.index.json")), kInvalid,
             "--checkpoint " + (dir_ / "a").string());
  ExpectSaid(CheckCheckpointDirectory(Write("g/model.gguf", gguf)), kInvalid,
             "GGUF with --gguf " + (dir_ / "g/model.gguf").string());
  ExpectSaid(CheckCheckpointDirectory(Write("h/model", gguf)), kInvalid, "--gguf");
  ExpectSaid(CheckCheckpointDirectory(dir_ / "g"), kInvalid,
             "--gguf " + (dir_ / "g/model.gguf").string());
  ExpectSaid(CheckCheckpointDirectory(dir_ / "h"), kInvalid, "--gguf");
  Write("p/pytorch_model.bin");
  ExpectSaid(CheckCheckpointDirectory(dir_ / "p"), kInvalid, "PyTorch");
  Write("models--x--y/snapshots/1234/model.safetensors");
  ExpectSaid(CheckCheckpointDirectory(dir_ / "models--x--y"), kInvalid, "/snapshots/1234");
  Write("n/readme.txt");
  ExpectSaid(CheckCheckpointDirectory(dir_ / "n"), absl::StatusCode::kNotFound, "neither");
  ExpectSaid(CheckCheckpointDirectory(dir_ / "none"), absl::StatusCode::kNotFound, "none");
}

TEST_F(CheckpointFilesTest, ListsSafetensorsInOrderWithoutHiddenOnes) {
  for (const char* name : {"b.safetensors", "a.safetensors", "._a.safetensors", "c.json"}) {
    Write(name);
  }
  fs::create_symlink("nowhere", dir_ / "d.safetensors");
  EXPECT_THAT(ListSafetensors(dir_).value(),
              ElementsAre("a.safetensors", "b.safetensors", "d.safetensors"));
  EXPECT_FALSE(ListSafetensors(dir_ / "none").ok());
}

TEST_F(CheckpointFilesTest, NamesTheMissingOfASeries) {
  EXPECT_THAT(MissingOfSeries({"m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors"}),
              ElementsAre("m-00002-of-00003.safetensors"));
  EXPECT_THAT(MissingOfSeries({"m-00001-of-00001.safetensors", "model.safetensors", "-of-"}),
              IsEmpty());
  EXPECT_EQ(MissingOfSeries({"m-00001-of-99999.safetensors"}).size(), 3u);
  EXPECT_THAT(MissingOfSeries({"m-4000000000-of-4000000000.safetensors"}), IsEmpty());
}

TEST_F(CheckpointFilesTest, SaysThatALinkLeadsNowhere) {
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  fs::create_directories(dir_ / "snapshots/r");
  const fs::path link = dir_ / "snapshots/r/model.safetensors";
  fs::create_symlink("../../blobs/abc", link);
  ExpectSaid(CheckLinkLeadsSomewhere(link), kPrecondition, "../../blobs/abc");
  ExpectSaid(CheckLinkLeadsSomewhere(link), kPrecondition, (dir_ / "blobs/abc").string());
  // A file that is read as text is not taken for absent.
  ExpectSaid(ReadCheckpointText(link, 100).status(), kPrecondition, "../../blobs/abc");
  Write("blobs/abc", "text");
  EXPECT_TRUE(CheckLinkLeadsSomewhere(link).ok());
  EXPECT_EQ(ReadCheckpointText(link, 100).value(), "text");
  EXPECT_TRUE(CheckLinkLeadsSomewhere(dir_ / "none").ok());
  EXPECT_EQ(ReadCheckpointText(dir_ / "none", 100).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointFilesTest, FindsTheControlFileOfADownload) {
  const std::string file = Write("dir/model.safetensors");
  EXPECT_TRUE(CheckDownloadFinished(file).ok());
  for (const char* suffix : {".aria2", ".incomplete", ".part"}) {
    const std::string control = file + suffix;
    Write("dir/model.safetensors" + std::string(suffix));
    ExpectSaid(CheckDownloadFinished(file), absl::StatusCode::kFailedPrecondition, control);
    fs::remove(control);
  }
  // Beside the file that a link leads to.
  fs::create_symlink("dir/model.safetensors", dir_ / "link");
  EXPECT_TRUE(CheckDownloadFinished(dir_ / "link").ok());
  Write("dir/model.safetensors.incomplete");
  ExpectSaid(CheckDownloadFinished(dir_ / "link"), absl::StatusCode::kFailedPrecondition,
             "model.safetensors.incomplete");
}

TEST_F(CheckpointFilesTest, KnowsABlobByItsName) {
  const std::string digest(64, 'a');
  Write("blobs/" + digest);
  Write("blobs/" + digest.substr(1));
  Write("other/" + digest);
  for (const char* folder : {"blobs", "other"}) {
    fs::create_symlink(dir_ / folder / digest, dir_ / (std::string(folder) + ".link"));
  }
  fs::create_symlink(dir_ / "blobs" / digest.substr(1), dir_ / "short.link");
  const std::optional<Blob> blob = BlobOf(dir_ / "blobs.link");
  ASSERT_TRUE(blob.has_value());
  EXPECT_EQ(blob->digest, digest);
  EXPECT_EQ(blob->path, fs::canonical(dir_ / "blobs" / digest).string());
  for (const char* name : {"other.link", "short.link", "none"}) {
    EXPECT_FALSE(BlobOf(dir_ / name).has_value()) << name;
  }
  // No link: a file that somebody put there.
  EXPECT_FALSE(BlobOf(dir_ / "blobs" / digest).has_value());
}

TEST_F(CheckpointFilesTest, ComparesATextWithTheDigestOfItsName) {
  for (std::string name : {Sha256Hex("text"), absl::AsciiStrToUpper(Sha256Hex("text"))}) {
    const fs::path blob = Write("blobs/" + name, "text"), link = dir_ / "config.json";
    fs::remove(link);
    fs::create_symlink(blob, link);
    EXPECT_EQ(BlobOf(link)->digest, Sha256Hex("text"));
    EXPECT_EQ(ReadCheckpointText(link, 100).value(), "text");
    Write("blobs/" + name, "test");
    ExpectSaid(ReadCheckpointText(link, 100).status(), absl::StatusCode::kDataLoss, blob);
    // Without a link the name is anybody's.
    EXPECT_EQ(ReadCheckpointText(blob, 100).value(), "test");
  }
}

// Small files are named as git names them: by `git hash-object`.
TEST_F(CheckpointFilesTest, ComparesATextWithTheNameThatGitGives) {
  const fs::path blob = Write("blobs/1269488f7fb1f4b56a8c0e5eb48cecbfadfa9219", "data\n");
  const fs::path link = dir_ / "config.json";
  fs::create_symlink(blob, link);
  EXPECT_EQ(ReadCheckpointText(link, 100).value(), "data\n");
  Write("blobs/1269488f7fb1f4b56a8c0e5eb48cecbfadfa9219", "date\n");
  ExpectSaid(ReadCheckpointText(link, 100).status(), absl::StatusCode::kDataLoss, "git blob id");
}

TEST_F(CheckpointFilesTest, FindsHolesOfAMebibyteAndMore) {
  constexpr uint64_t kMiB = 1u << 20;
  const std::string path = dir_ / "sparse";
  const FileDescriptor file = OpenFile(path, O_RDWR | O_CREAT).value();
  const std::string block(kMiB, 'x');
  // Data, 2 MiB of nothing, data, half a MiB of nothing, data, 3 MiB of nothing.
  for (const uint64_t at : {uint64_t{0}, 3 * kMiB, 4 * kMiB + kMiB / 2}) {
    ASSERT_EQ(pwrite(file.get(), block.data(), block.size(), at), block.size());
  }
  ASSERT_EQ(ftruncate(file.get(), 8 * kMiB + kMiB / 2), 0);
  if (lseek(file.get(), 0, SEEK_HOLE) >= static_cast<off_t>(8 * kMiB)) {
    GTEST_SKIP() << "the file system of " << dir_ << " does not tell holes";
  }
  const auto find = [&](uint64_t begin, uint64_t end, size_t most) {
    std::vector<std::pair<uint64_t, uint64_t>> found;
    for (const ByteRange& hole : FindHoles(path, {begin, end}, most)) {
      found.emplace_back(hole.begin, hole.end);
    }
    return found;
  };
  const std::pair first(kMiB, 3 * kMiB), last(5 * kMiB + kMiB / 2, 8 * kMiB + kMiB / 2);
  EXPECT_THAT(find(0, 8 * kMiB + kMiB / 2, 9), ElementsAre(first, last));
  EXPECT_THAT(find(0, 8 * kMiB + kMiB / 2, 1), ElementsAre(first));
  // What of a hole is in the range counts.
  EXPECT_THAT(find(0, 2 * kMiB, 9), ElementsAre(std::pair(kMiB, 2 * kMiB)));
  EXPECT_THAT(find(2 * kMiB + 1, 5 * kMiB, 9), IsEmpty());
  EXPECT_THAT(find(0, kMiB, 9), IsEmpty());
}

}  // namespace
}  // namespace engram
