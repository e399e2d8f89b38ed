#include "memstore/table/side_files.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/set_directory.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/shard_layout.h"
#include "memstore/table/side_file.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// As a line: "a.safetensors 77 bytes 2 tensors of 1,14".
std::string Said(const SourceFile& file) {
  return absl::StrCat(file.path, " ", file.bytes, " bytes ", file.tensors, " tensors of ",
                      absl::StrJoin(file.layers, ","));
}

// Two shards of 5 and 3 pages with their headers'.
Manifest Sample() {
  Manifest manifest;
  manifest.id = Sha256Hex("a set");
  const auto shard = [](const std::string& name, uint64_t pages) {
    ShardSpec spec;
    spec.file = name + ".rows";
    spec.checksum_file = name + ".crc32c";
    spec.rows = 16;
    spec.block_rows = 16;
    spec.file_bytes = pages * kShardPageBytes;
    return spec;
  };
  LayerTableSpec layer;
  layer.layer = 1;
  layer.shards = {shard("layer01-00000", 5), shard("layer01-00001", 3)};
  manifest.layers = {layer};
  return manifest;
}

Provenance SampleProvenance() {
  Provenance provenance;
  provenance.source_kind = kCheckpointSource;
  provenance.path = "/models/an engram \"model\"";
  provenance.repository = "maker/model";
  provenance.revision = "0123abcd";
  provenance.index_sha256 = Sha256Hex("index");
  provenance.headers_sha256 = Sha256Hex("headers");
  provenance.stored_constants = true;
  provenance.packer_version = "0.1.0";
  provenance.packed_at = absl::FromUnixSeconds(1764455152);
  provenance.read_from = {
      .files = {{"a.safetensors", 5'000'000'000, 4, {1, 14}}, {"b\"\x1b.safetensors", 77, 1, {14}}},
      .left_out = 3};
  return provenance;
}

class SideFilesTest : public testing::Test {
 protected:
  SideFilesTest()
      : set_(Fresh("side_files_set")), state_(Fresh("side_files_state")), manifest_(Sample()) {}

  static std::string Fresh(const std::string& name) {
    const fs::path path = fs::path(testing::TempDir()) / name;
    fs::remove_all(path);
    fs::create_directory(path);
    return path;
  }
  void Put(const std::string& directory, const std::string& name, const std::string& kind,
           const std::string& body) const {
    fs::remove(JoinPath(directory, name));
    ASSERT_TRUE(WriteSideFile(JoinPath(directory, name), kind, manifest_.id, body).ok());
  }
  void PutPages(const std::string& directory, size_t shard, const std::vector<uint32_t>& pages) {
    Put(directory, PageChecksumsFile(manifest_.layers[0].shards[shard]), kPageChecksumsKind,
        PageChecksumsBody(pages));
  }
  absl::StatusOr<SideFiles> Load() const { return LoadSideFiles(set_, state_, manifest_); }

  const std::string set_, state_;
  const Manifest manifest_;
};

TEST_F(SideFilesTest, AreAllAbsentWithoutError) {
  const SideFiles files = Load().value();
  EXPECT_FALSE(files.provenance.has_value());
  EXPECT_TRUE(files.image_token_ids.empty());
  EXPECT_FALSE(files.page_checksums);
  EXPECT_TRUE(LoadSideFiles(set_, "", manifest_).ok());
  EXPECT_TRUE(LoadSideFiles(set_, set_ + "/nowhere", manifest_).ok());
}

TEST_F(SideFilesTest, GiveBackWhatWasWritten) {
  Put(set_, kProvenanceFile, kProvenanceKind, ProvenanceBody(SampleProvenance()));
  Put(set_, kImageTokenIdsFile, kImageTokenIdsKind, ImageTokenIdsBody({7, 3, 7, 2147483647}));
  PutPages(set_, 0, {1, 2, 3, 4, 5});
  EXPECT_FALSE(Load().value().page_checksums) << "one shard has none";
  PutPages(state_, 1, {6, 7, 8});
  const SideFiles files = Load().value();
  ASSERT_TRUE(files.provenance.has_value());
  const Provenance sample = SampleProvenance();
  EXPECT_EQ(files.provenance->source_kind, sample.source_kind);
  EXPECT_EQ(files.provenance->path, sample.path);
  EXPECT_EQ(files.provenance->repository, sample.repository);
  EXPECT_EQ(files.provenance->revision, sample.revision);
  EXPECT_EQ(files.provenance->index_sha256, sample.index_sha256);
  EXPECT_EQ(files.provenance->headers_sha256, sample.headers_sha256);
  EXPECT_TRUE(files.provenance->stored_constants);
  EXPECT_EQ(files.provenance->packer_version, sample.packer_version);
  EXPECT_EQ(files.provenance->packed_at, sample.packed_at);
  EXPECT_EQ(FormatPackedAt(files.provenance->packed_at), "2025-11-29T22:25:52Z");
  const ReadFrom& from = files.provenance->read_from;
  ASSERT_EQ(from.files.size(), 2u);
  EXPECT_EQ(Said(from.files[0]), "a.safetensors 5000000000 bytes 4 tensors of 1,14");
  EXPECT_EQ(Said(from.files[1]), "b\"\x1b.safetensors 77 bytes 1 tensors of 14");
  EXPECT_EQ(from.left_out, 3u);
  EXPECT_THAT(files.image_token_ids, ElementsAre(3, 7, 2147483647));
  EXPECT_TRUE(files.page_checksums);
  const auto pages =
      LoadPageChecksums(set_, state_, manifest_, manifest_.layers[0].shards[1]).value();
  ASSERT_TRUE(pages.has_value());
  EXPECT_THAT(pages->pages, ElementsAre(6, 7, 8));
  EXPECT_EQ(pages->path, JoinPath(state_, "layer01-00001.page-checksums.side"));
}

TEST(SideDirectory, IsTheSetsOwnWhereThereIsAStateDirectory) {
  EXPECT_EQ(SideDirectory("/state", "891b"), "/state/891b");
  EXPECT_EQ(SideDirectory("", "891b"), "");
}

TEST_F(SideFilesTest, CountTheSetsOwnFirstAndReadBoth) {
  Put(set_, kImageTokenIdsFile, kImageTokenIdsKind, ImageTokenIdsBody({1}));
  Put(state_, kImageTokenIdsFile, kImageTokenIdsKind, ImageTokenIdsBody({2}));
  EXPECT_THAT(Load().value().image_token_ids, ElementsAre(1));
  Put(state_, kImageTokenIdsFile, kImageTokenIdsKind, "{}");
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr(state_));
}

// What links say is of no concern here, in the other directory of none at all.
TEST_F(SideFilesTest, CheckThatLinksAreWholeWhereverTheyLie) {
  for (const std::string& directory : {set_, state_}) {
    Put(directory, kLinksFile, kLinksKind, "whatever");
    EXPECT_TRUE(Load().ok()) << Load().status();
    EXPECT_EQ(Load()->links_body.has_value(), directory == set_);
    const std::string path = JoinPath(directory, kLinksFile);
    fs::resize_file(path, fs::file_size(path) - 1);
    EXPECT_EQ(Load().status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(Load().status().message()), HasSubstr(path));
    fs::remove(path);
  }
}

TEST_F(SideFilesTest, KeepWhatAPathCanBe) {
  Provenance provenance = SampleProvenance();
  provenance.path = std::string(kMaxProvenanceTextBytes - 1, '\xff') + "\xc3\xa4";
  Put(set_, kProvenanceFile, kProvenanceKind, ProvenanceBody(provenance));
  const std::string replaced = Load().value().provenance->path;
  EXPECT_LE(replaced.size(), kMaxProvenanceTextBytes);
  EXPECT_EQ(replaced.substr(0, 3), "\xef\xbf\xbd");
  EXPECT_EQ(replaced.size() % 3, 0u) << "a character was cut";
}

TEST(SourceText, ShowsAPathWhole) {
  Provenance provenance = SampleProvenance();
  provenance.path = absl::StrCat("/", std::string(1000, 'x'), "/model");
  EXPECT_THAT(ProvenanceText(provenance), HasSubstr(provenance.path));
  provenance.repository.clear();
  EXPECT_EQ(SourceText(provenance), provenance.path);
}

TEST_F(SideFilesTest, AllowKeysThatThisVersionDoesNotKnow) {
  const std::string body = absl::StrReplaceAll(ProvenanceBody(SampleProvenance()),
                                               {{"{\n", "{\n\"of_tomorrow\": [1, {}],\n"}});
  Put(set_, kProvenanceFile, kProvenanceKind, body);
  EXPECT_EQ(Load().value().provenance->repository, "maker/model");
  // Within the list of files, too.
  EXPECT_THAT(body, HasSubstr("\"read_from\": {\n\"of_tomorrow\""));
  EXPECT_EQ(Load().value().provenance->read_from.files.size(), 2u);
}

TEST_F(SideFilesTest, DoWithoutTheFilesThatEarlierVersionsDidNotList) {
  Provenance provenance = SampleProvenance();
  provenance.read_from = {};
  const std::string body = ProvenanceBody(provenance);
  EXPECT_THAT(body, Not(HasSubstr("read_from")));
  Put(set_, kProvenanceFile, kProvenanceKind, body);
  const Provenance read = *Load().value().provenance;
  EXPECT_EQ(read.repository, "maker/model");
  EXPECT_TRUE(read.read_from.files.empty());
  EXPECT_EQ(read.read_from.left_out, 0u);
}

TEST_F(SideFilesTest, ListTheFirstOfManyFilesAndCountTheOthers) {
  Provenance provenance = SampleProvenance();
  provenance.read_from = {};
  for (size_t i = 0; i < kMaxSourceFiles + 9; ++i) {
    provenance.read_from.files.push_back(
        {absl::StrCat("model-", i, "-of-00521.safetensors"), i, 2, {1, 14}});
  }
  Put(set_, kProvenanceFile, kProvenanceKind, ProvenanceBody(provenance));
  ReadFrom from = Load().value().provenance->read_from;
  ASSERT_EQ(from.files.size(), kMaxSourceFiles);
  EXPECT_EQ(from.files.back().bytes, kMaxSourceFiles - 1);
  EXPECT_EQ(from.left_out, 9u);
  // Names that take the most room: fewer of them, and the file can still be read.
  const std::string controls(255, '\x01');
  for (SourceFile& file : provenance.read_from.files) file.path = controls;
  const std::string body = ProvenanceBody(provenance);
  EXPECT_LE(body.size(), kMaxProvenanceBytes);
  Put(set_, kProvenanceFile, kProvenanceKind, body);
  from = Load().value().provenance->read_from;
  EXPECT_FALSE(from.files.empty());
  EXPECT_EQ(from.files[0].path, controls);
  EXPECT_EQ(from.files.size() + from.left_out, kMaxSourceFiles + 9);
}

struct WrongBody {
  const char* what;
  const char* name;
  const char* kind;
  std::string body;
  const char* message;
};

std::string Changed(const std::string& from, const std::string& to) {
  const std::string body = ProvenanceBody(SampleProvenance());
  const std::string changed = absl::StrReplaceAll(body, {{from, to}});
  EXPECT_NE(changed, body);
  return changed;
}

std::vector<WrongBody> WrongBodies() {
  const auto provenance = [](const char* what, const std::string& body, const char* message) {
    return WrongBody{what, kProvenanceFile, kProvenanceKind, body, message};
  };
  const auto ids = [](const char* what, const std::string& body, const char* message) {
    return WrongBody{what, kImageTokenIdsFile, kImageTokenIdsKind, body, message};
  };
  std::string many = "{\"image_token_ids\": [0";
  for (size_t i = 1; i <= kMaxImageTokenIds; ++i) absl::StrAppend(&many, ",", i);
  return {
      provenance("no_json", "{", "no JSON object"),
      provenance("no_object", "[]", "no JSON object"),
      provenance("no_utf8", Changed("maker", "\xff"), "no JSON object"),
      provenance("no_kind", Changed("source_kind", "kind"), "\"source_kind\" nothing"),
      provenance("text", Changed("\"maker/model\"", "7"), "\"repository\" something that is no"),
      provenance("long_text", Changed("maker", std::string(5000, 'm')), "\"repository\" a text"),
      provenance("digest", Changed(Sha256Hex("index"), "ABC"), "\"index_sha256\""),
      provenance("flag", Changed("true", "\"true\""), "\"stored_constants\" neither"),
      provenance("time", Changed("2025-11-29T22", "yesterday"), "\"packed_at\" no time"),
      provenance("infinite", Changed("2025-11-29T22:25:52Z", "infinite-future"), "\"packed_at\""),
      provenance("no_files", Changed("\"read_from\": {", "\"read_from\": 1, \"was\": {"),
                 "\"read_from\" something that is no object"),
      provenance("no_list_of_files", Changed("\"files\": [", "\"files\": 1, \"was\": ["),
                 "\"files\" something that is no list"),
      provenance("no_file", Changed("\"files\": [", "\"files\": [5, "),
                 "\"files\" something that is no object"),
      provenance("no_path", Changed("a.safetensors", ""), "\"path\" nothing"),
      provenance("long_path", Changed("a.safetensors", std::string(5000, 'a')), "\"path\" a text"),
      provenance("file_bytes", Changed("5000000000", "-5"), "\"bytes\" something that is no whole"),
      provenance("left_out", Changed("\"left_out\": 3", "\"left_out\": 0.5"), "\"left_out\""),
      provenance("file_layers", Changed("14\n", "4294967296\n"), "\"layers\" a layer that is"),
      provenance("too_long", std::string(kMaxProvenanceBytes + 1, ' '), "is longer than"),
      ids("no_list", "{\"image_token_ids\": 5}", "something that is no list"),
      ids("no_key", "{}", "something that is no list"),
      ids("negative", "{\"image_token_ids\": [-1]}", "an id that is no whole number"),
      ids("fraction", "{\"image_token_ids\": [1.5]}", "an id that is no whole number"),
      ids("large", "{\"image_token_ids\": [2147483648]}", "an id that is no whole number"),
      ids("order", "{\"image_token_ids\": [2, 2]}", "do not ascend"),
      ids("many", many + "]}", "more than 1024"),
      {"few_pages", "layer01-00000.page-checksums.side", kPageChecksumsKind, std::string(16, 'x'),
       "the 5 pages of layer01-00000.rows take 20"},
      {"many_pages", "layer01-00001.page-checksums.side", kPageChecksumsKind, std::string(16, 'x'),
       "is longer than"},
      {"kind", kProvenanceFile, kLinksKind, "{}", "is of kind links"},
  };
}

class WrongBodyTest : public SideFilesTest, public testing::WithParamInterface<WrongBody> {};

TEST_P(WrongBodyTest, IsRefusedByNameInEitherDirectory) {
  const WrongBody& wrong = GetParam();
  for (const std::string& directory : {set_, state_}) {
    Put(directory, wrong.name, wrong.kind, wrong.body);
    const absl::Status status = Load().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(JoinPath(directory, wrong.name)), HasSubstr(wrong.message),
                      HasSubstr("may be deleted")));
    fs::remove(JoinPath(directory, wrong.name));
    EXPECT_TRUE(Load().ok());
  }
}

INSTANTIATE_TEST_SUITE_P(All, WrongBodyTest, testing::ValuesIn(WrongBodies()),
                         [](const auto& info) { return info.param.what; });

TEST_F(SideFilesTest, OfAnotherSetAreRefused) {
  for (const std::string& name : SideFileNames(manifest_)) {
    const std::string path = JoinPath(set_, name);
    const std::string kind = name == kProvenanceFile      ? kProvenanceKind
                             : name == kImageTokenIdsFile ? kImageTokenIdsKind
                             : name == kLinksFile         ? kLinksKind
                                                          : kPageChecksumsKind;
    ASSERT_TRUE(WriteSideFile(path, kind, Sha256Hex("another set"), "{}").ok());
    EXPECT_EQ(Load().status().code(), absl::StatusCode::kFailedPrecondition) << name;
    EXPECT_THAT(std::string(Load().status().message()), HasSubstr(path));
    fs::remove(path);
  }
}

TEST_F(SideFilesTest, AloneMayStandBesideTheSetsFiles) {
  const auto touch = [this](const std::string& name, uint64_t bytes) {
    std::ofstream(JoinPath(set_, name)).put('x');
    fs::resize_file(JoinPath(set_, name), bytes);
  };
  touch(kManifestFile, 1);
  touch(kManifestDigestFile, 1);
  for (const ShardSpec& shard : manifest_.layers[0].shards) {
    touch(shard.file, shard.file_bytes);
    touch(shard.checksum_file, (1 + ShardBlocks(shard)) * sizeof(uint32_t));
  }
  ASSERT_TRUE(CheckSetDirectory(set_, manifest_).ok());
  for (const std::string& name : SideFileNames(manifest_)) {
    // Links stand in place of shards (linked_set_test.cc).
    if (name != kLinksFile) touch(name, 1);
  }
  EXPECT_TRUE(CheckSetDirectory(set_, manifest_).ok());
  for (const char* name : {"other.side", "layer01-00002.page-checksums.side", "provenance"}) {
    touch(name, 1);
    const absl::Status status = CheckSetDirectory(set_, manifest_);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("does not belong"));
    fs::remove(JoinPath(set_, name));
  }
  fs::remove(JoinPath(set_, kProvenanceFile));
  fs::create_symlink("/dev/null", JoinPath(set_, kProvenanceFile));
  const absl::Status status = CheckSetDirectory(set_, manifest_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("not a regular file"), HasSubstr("may be deleted")));
}

}  // namespace
}  // namespace engram
