// Linked sets that are found again, or made anew where they would come out otherwise.
#include "memstore/pack/linked_set.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/side_files.h"
#include "memstore/table/verify.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_checkpoint::QwenTable;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::WriteCheckpoint;
using testing_checkpoint::WriteText;

constexpr char kFamily[] = "qwen4-exp";
constexpr uint64_t kRowsPerHead = 500;

// config.json with these image token ids.
std::string ConfigWith(const std::string& images) {
  return absl::StrCat(R"({"ngram_size": 3, "heads_per_ngram": 8, "image_token_id": )", images, "}");
}

class FindOrLinkTest : public testing::Test {
 protected:
  FindOrLinkTest() : dir_(fs::path(testing::TempDir()) / "pack_linked_set_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    WriteModel(1);
  }
  ~FindOrLinkTest() override { fs::remove_all(dir_); }
  fs::path Model() const { return dir_ / "model"; }
  fs::path Set() const { return dir_ / "set"; }

  void WriteModel(uint64_t seed, uint64_t rows_per_head = kRowsPerHead) {
    const uint64_t rows =
        Derive(**FindFamily(kFamily), {rows_per_head, {}}).value().layers[0].Rows();
    fs::remove_all(Model());
    WriteCheckpoint(Model(), {{"model.safetensors", {QwenTable(SomeBytes(seed, rows * 320))}}});
  }
  absl::StatusOr<LinkedSet> FindOrLink(uint64_t rows_per_head = kRowsPerHead) {
    notes_.clear();
    PackOptions options;
    options.output = Set();
    options.rows_per_head = rows_per_head;
    options.on_progress = on_progress_;
    options.on_note = [this](const std::string& note) {
      if (!absl::StrContains(note, "anew")) return;
      notes_.push_back(note);
      EXPECT_TRUE(fs::exists(Set())) << "removed before it was said";
    };
    return FindOrLinkCheckpoint(**FindFamily(kFamily), Model(), options);
  }
  // Its id, when it was kept as it was, or made (anew, where something was there).
  std::string ExpectLinked(bool kept, uint64_t rows_per_head = kRowsPerHead) {
    const absl::StatusOr<LinkedSet> set = FindOrLink(rows_per_head);
    EXPECT_TRUE(set.ok()) << set.status();
    if (!set.ok()) return "";
    EXPECT_EQ(set->kept, kept);
    const auto verified = VerifyTableSet(Set(), {});
    EXPECT_TRUE(verified.ok()) << verified.status();
    EXPECT_EQ(verified->id, set->manifest.id);
    return set->manifest.id;
  }

  fs::path dir_;
  std::vector<std::string> notes_;
  ProgressFunction on_progress_;
};

TEST_F(FindOrLinkTest, KeepsASetThatIsUnchanged) {
  const std::string id = ExpectLinked(false);
  const fs::file_time_type made = fs::last_write_time(Set() / kManifestFile);
  EXPECT_THAT(notes_, IsEmpty());
  EXPECT_EQ(ExpectLinked(true), id);
  EXPECT_EQ(fs::last_write_time(Set() / kManifestFile), made);
}

TEST_F(FindOrLinkTest, MakesItAnewWhereTheRowsFilesChanged) {
  const std::string id = ExpectLinked(false);
  WriteModel(2);
  EXPECT_NE(ExpectLinked(false), id);
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_THAT(notes_[0], HasSubstr(Set().string()));
  // Its time alone.
  const fs::path file = Model() / "model.safetensors";
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  ExpectLinked(false);
  ExpectLinked(true);
}

// Files without rows count, too: what they say of the addresses is in the manifest.
TEST_F(FindOrLinkTest, MakesItAnewWhereOptionsOrConfigurationChanged) {
  ExpectLinked(false);
  WriteText(Model() / "config.json",
            R"({"ngram_size": 3, "heads_per_ngram": 8, "eos_token_id": 7})");
  const absl::StatusOr<LinkedSet> set = FindOrLink();
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_FALSE(set->kept);
  // Another size does not fit these rows: what is there stays.
  EXPECT_FALSE(FindOrLink(kRowsPerHead + 100).ok());
  EXPECT_TRUE(FindOrLink()->kept);
}

// They are not in the manifest, and no file of rows changes.
TEST_F(FindOrLinkTest, MakesItAnewWhereImageTokenIdsChanged) {
  WriteText(Model() / "config.json", ConfigWith("9"));
  const std::string id = ExpectLinked(false);
  for (const auto& [config, ids] : {std::pair(ConfigWith("[8, 9]"), std::vector<int32_t>{8, 9}),
                                    std::pair(ConfigWith("null"), std::vector<int32_t>{})}) {
    WriteText(Model() / "config.json", config);
    EXPECT_EQ(ExpectLinked(false), id) << config;
    EXPECT_EQ(LoadSmallSideFiles(Set(), "", LoadManifest(Set()).value()).value().image_token_ids,
              ids);
    EXPECT_EQ(ExpectLinked(true), id) << config;
  }
}

TEST_F(FindOrLinkTest, MakesItAnewWhereItsFilesAreDamaged) {
  WriteText(Model() / "config.json", ConfigWith("9"));
  const std::string id = ExpectLinked(false);
  const Manifest manifest = LoadManifest(Set()).value();
  for (const std::string& file :
       {std::string(kManifestFile), std::string(kManifestDigestFile), std::string(kLinksFile),
        std::string(kImageTokenIdsFile), manifest.layers[0].shards[0].checksum_file}) {
    fs::resize_file(Set() / file, fs::file_size(Set() / file) - 1);
    EXPECT_EQ(ExpectLinked(false), id) << file;
    fs::remove(Set() / file);
    EXPECT_EQ(ExpectLinked(false), id) << file;
  }
  // It is whole without, but not with a damaged one.
  fs::resize_file(Set() / kProvenanceFile, fs::file_size(Set() / kProvenanceFile) - 1);
  EXPECT_EQ(ExpectLinked(false), id);
  std::ofstream(Set() / "layer01-00009.crc32c") << "of another table";
  EXPECT_EQ(ExpectLinked(false), id);
}

TEST_F(FindOrLinkTest, MakesItInAnEmptyDirectory) {
  fs::create_directory(Set());
  ExpectLinked(false);
  ExpectLinked(true);
}

struct NotOurs {
  const char* what;
  void (*put)(const fs::path& model, const fs::path& set);
  const char* message;
};

void PutSet(const fs::path& model, const fs::path& set, bool link) {
  PackOptions options;
  options.output = set;
  options.rows_per_head = kRowsPerHead;
  options.link = link;
  ASSERT_TRUE(PackCheckpoint(**FindFamily(kFamily), model, options).ok());
}

const NotOurs kNotOurs[] = {
    {"Model", [](const fs::path& model, const fs::path& set) { fs::copy(model, set); },
     "holds model.safetensors"},
    {"PackedSet",
     [](const fs::path& model, const fs::path& set) { PutSet(model, set, /*link=*/false); },
     ".rows"},
    {"ModelInALinkedSet",
     [](const fs::path& model, const fs::path& set) {
       PutSet(model, set, /*link=*/true);
       WriteText(set / "model.gguf", "GGUF");
     },
     "model.gguf"},
    {"ModelOfAnotherKindInALinkedSet",
     [](const fs::path& model, const fs::path& set) {
       PutSet(model, set, /*link=*/true);
       WriteText(set / "pytorch_model.bin", "PK");
     },
     "holds pytorch_model.bin"},
    {"NotesInALinkedSetThatIsDamaged",
     [](const fs::path& model, const fs::path& set) {
       PutSet(model, set, /*link=*/true);
       fs::remove(set / kManifestFile);
       WriteText(set / "notes", "mine");
     },
     "holds notes"},
    {"DirectoryInALinkedSet",
     [](const fs::path& model, const fs::path& set) {
       PutSet(model, set, /*link=*/true);
       fs::copy(model, set / "model");
     },
     "holds a directory"},
    {"LinkToALinkedSet",
     [](const fs::path& model, const fs::path& set) {
       PutSet(model, set.string() + "_elsewhere", /*link=*/true);
       fs::create_directory_symlink(set.string() + "_elsewhere", set);
     },
     "is a symbolic link"},
    {"LinkToNothing",
     [](const fs::path&, const fs::path& set) { fs::create_symlink("nowhere", set); },
     "is a symbolic link"},
    {"OtherDirectory",
     [](const fs::path&, const fs::path& set) {
       fs::create_directory(set);
       WriteText(set / "notes", "mine");
     },
     "holds notes"},
    {"OtherSideFiles",
     [](const fs::path&, const fs::path& set) {
       fs::create_directory(set);
       WriteText(set / "mine.side", "mine");
     },
     "has neither links.side nor manifest.textproto"},
    {"File", [](const fs::path&, const fs::path& set) { WriteText(set, "mine"); },
     "is no directory"},
};

class NotOursTest : public FindOrLinkTest, public testing::WithParamInterface<NotOurs> {
 protected:
  // Every name, with its kind and size.
  std::vector<std::string> All() const {
    std::vector<std::string> all;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(dir_)) {
      const bool is_file = !entry.is_symlink() && entry.is_regular_file();
      all.push_back(absl::StrCat(entry.path().string(), " ",
                                 static_cast<int>(entry.symlink_status().type()), " ",
                                 is_file ? entry.file_size() : 0));
    }
    std::sort(all.begin(), all.end());
    return all;
  }
};

TEST_P(NotOursTest, StaysAndIsNamed) {
  GetParam().put(Model(), Set());
  const std::vector<std::string> before = All();
  const absl::Status linked = FindOrLink().status();
  for (const absl::Status& status : {linked, IsLinkedSet(Set()).status(), RemoveLinkedSet(Set())}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(Set().string()), HasSubstr(GetParam().message),
                      HasSubstr("move it to another place")));
  }
  EXPECT_EQ(All(), before);
  EXPECT_THAT(notes_, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, NotOursTest, testing::ValuesIn(kNotOurs),
                         [](const auto& info) { return info.param.what; });

// Too many open files, say: here a link that leads to itself, which is no more of the content.
TEST_F(FindOrLinkTest, ASetThatCannotBeLookedAtStays) {
  ExpectLinked(false);
  fs::remove(Set() / kManifestDigestFile);
  fs::remove(Set() / kManifestFile);
  fs::create_symlink(kManifestFile, Set() / kManifestFile);
  const absl::StatusOr<LinkedSet> set = FindOrLink();
  EXPECT_FALSE(set.ok());
  EXPECT_THAT(std::string(set.status().message()), HasSubstr("remove " + Set().string()));
  EXPECT_TRUE(fs::exists(Set() / kLinksFile));
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(FindOrLinkTest, RemovingTakesALinkedSetAlone) {
  EXPECT_TRUE(RemoveLinkedSet(Set()).ok()) << "nothing is there";
  EXPECT_FALSE(IsLinkedSet(Set()).value());
  ExpectLinked(false);
  EXPECT_TRUE(IsLinkedSet(Set()).value());
  EXPECT_TRUE(RemoveLinkedSet(Set()).ok());
  EXPECT_FALSE(fs::exists(fs::symlink_status(Set())));
  EXPECT_TRUE(fs::exists(Model() / "model.safetensors"));
}

// Whoever reads the rows while the file is written gets some of each.
TEST_F(FindOrLinkTest, AFileThatChangesWhileItIsReadLinksNothing) {
  const fs::path file = Model() / "model.safetensors";
  on_progress_ = [&](uint64_t, uint64_t) {
    fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  };
  const absl::StatusOr<LinkedSet> set = FindOrLink();
  EXPECT_EQ(set.status().code(), absl::StatusCode::kFailedPrecondition) << set.status();
  EXPECT_THAT(std::string(set.status().message()), HasSubstr(file.string()));
  EXPECT_FALSE(fs::exists(Set()));
}

TEST_F(FindOrLinkTest, CheckingReadsNoRowAndWritesNothing) {
  PackOptions options;
  options.output = Set();
  options.rows_per_head = kRowsPerHead;
  EXPECT_EQ(CheckCheckpoint(**FindFamily(kFamily), Model(), options).value(),
            Derive(**FindFamily(kFamily), {kRowsPerHead, {}}).value().layers[0].Rows() * 320);
  EXPECT_EQ(CheckCheckpoint(**FindFamily(kFamily), dir_ / "none", options).status().code(),
            absl::StatusCode::kNotFound);
  options.rows_per_head += 100;
  EXPECT_FALSE(CheckCheckpoint(**FindFamily(kFamily), Model(), options).ok());
  EXPECT_FALSE(fs::exists(Set()));
}

}  // namespace
}  // namespace engram
