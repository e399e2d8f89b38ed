#include "server/start_checks.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/store/table_set.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class StartChecksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(root_.data()), nullptr);
    manifest_ = *testing::WriteSmallTableSet({.name = "one"}, Path("one"));
    config_.table_sets = {Path("one")};
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string Path(const std::string& name) const { return absl::StrCat(root_, "/", name); }
  std::string Shard() const { return Path("one/") + manifest_.layers[0].shards[0].file; }
  // A model's rows, in a directory of this name; how many bytes of rows it has.
  uint64_t WriteModel(const std::string& name) {
    config_.checkpoint = Path(name);
    config_.family = "qwen4-exp";
    config_.rows_per_head = 500;
    const uint64_t rows = Derive(**FindFamily(config_.family), {500, {}}).value().layers[0].Rows();
    testing_checkpoint::WriteCheckpoint(
        Path(name),
        {{"model.safetensors", {testing_checkpoint::QwenTable(std::string(rows * 320, 'r'))}}});
    return rows * 320;
  }
  // Has the set's rows lie in the file "rows", to which it links.
  void LinkRows() {
    const LayerTableSpec& layer = manifest_.layers[0];
    for (const ShardSpec& shard : layer.shards) {
      std::filesystem::remove(absl::StrCat(Path("one/"), shard.file));
    }
    std::ofstream(Path("rows")) << std::string(layer.rows * layer.row_bytes, 'r');
    LinkedRows links;
    links.files = {LookAtLinkedFile(Path("rows"), 0).value()};
    links.layers = {{layer.layer, {{{layer.row_bytes, {{Path("rows"), 0, 0, layer.rows}}}}}}};
    const absl::Status written = WriteSideFile(absl::StrCat(Path("one/"), kLinksFile), kLinksKind,
                                               manifest_.id, LinksBody(links).value());
    ASSERT_TRUE(written.ok()) << written;
  }
  std::string Text() const {
    const std::vector<Finding> findings = CheckConfiguration(config_);
    return FindingsText(findings) + FailuresText(findings);
  }
  // What --check-config says is what keeps engramd from starting.
  void ExpectWrong(const ::testing::Matcher<const std::string&>& matcher) const {
    EXPECT_THAT(Text(), AllOf(HasSubstr("FAILED  "), matcher));
    EXPECT_THAT(std::string(CheckBeforeLoading(config_).status().message()), matcher);
  }

  // Short, for the path of a socket is bounded.
  std::string root_ = "/tmp/start_checks-XXXXXX";
  Manifest manifest_;
  ServerConfig config_;
};

TEST_F(StartChecksTest, NamesEachThingThatItLookedAt) {
  config_.shm_socket = Path("s");
  config_.listen = {ListenAddress{.host = "127.0.0.1", .port = "7300", .unix_path = {}}};
  config_.admin_grpc_listen = ListenAddress{.host = {}, .port = {}, .unix_path = Path("a")};
  EXPECT_THAT(
      Text(),
      AllOf(HasSubstr(absl::StrCat("ok      table set ", Path("one"), ": one ", manifest_.id)),
            HasSubstr("ok      memory for "), HasSubstr("ok      --shm-socket " + Path("s")),
            HasSubstr("ok      --admin-grpc-listen unix:" + Path("a")), Not(HasSubstr("FAILED")),
            Not(HasSubstr("7300"))));
  EXPECT_FALSE(std::filesystem::exists(Path("s")));
}

TEST_F(StartChecksTest, FilesForEtcdAreLookedAt) {
  config_.register_security.ca = Path("no-ca");
  ExpectWrong(AllOf(HasSubstr("--register-ca"), HasSubstr(Path("no-ca"))));
  config_.register_security = {.user = "store", .password_file = Path("no-word")};
  ExpectWrong(AllOf(HasSubstr("--register-password-file"), HasSubstr(Path("no-word"))));
}

TEST_F(StartChecksTest, RowsThatAreCutOffAreFound) {
  std::filesystem::resize_file(Shard(), std::filesystem::file_size(Shard()) - 4096);
  ExpectWrong(AllOf(HasSubstr(Shard()), HasSubstr("cut off")));
}

TEST_F(StartChecksTest, RowsThatAreGoneAreFound) {
  std::filesystem::remove(Shard());
  ExpectWrong(AllOf(HasSubstr(Shard()), HasSubstr("lacks")));
}

// Which addresses other rows, or none: loading refuses it in the same words.
TEST_F(StartChecksTest, ATokenMapThatIsNotTheSetsIsFound) {
  manifest_ = *testing::WriteSmallTableSet({.name = "one", .with_token_map = true}, Path("one"));
  const std::string map = Path("one/") + manifest_.scheme.token_map->file;
  EXPECT_THAT(Text(), Not(HasSubstr("FAILED")));
  const auto bytes = std::filesystem::file_size(map);
  for (const uint64_t other : {bytes + 4, bytes - 4, bytes}) {  // the last one: not what it was
    std::filesystem::resize_file(map, other);
    ExpectWrong(AllOf(HasSubstr("table set " + Path("one")), HasSubstr(map),
                      HasSubstr("is not the token map")));
    EXPECT_EQ(CheckBeforeLoading(config_).status().message(),
              absl::StrCat("table set ", Path("one"), ": ",
                           TableSet::Load(Path("one"), {}).status().message()));
  }
}

// A linked set's rows are elsewhere, and may have changed since.
TEST_F(StartChecksTest, ALinkedSetWhoseCheckpointChangedIsFound) {
  LinkRows();
  EXPECT_THAT(Text(), Not(HasSubstr("FAILED")));
  EXPECT_TRUE(CheckBeforeLoading(config_).ok()) << CheckBeforeLoading(config_).status();
  std::filesystem::resize_file(Path("rows"), std::filesystem::file_size(Path("rows")) + 1);
  ExpectWrong(AllOf(HasSubstr("table set " + Path("one")), HasSubstr(Path("rows"))));
  std::filesystem::remove(Path("rows"));
  ExpectWrong(AllOf(HasSubstr("table set " + Path("one")), HasSubstr(Path("rows"))));
}

TEST_F(StartChecksTest, DamagedSideFilesAreFoundWhereverTheyLie) {
  config_.state_dir = Path("state");
  const std::string in_state = absl::StrCat(Path("state/"), manifest_.id);
  std::filesystem::create_directories(in_state);
  EXPECT_THAT(Text(), Not(HasSubstr("FAILED")));
  for (const std::string& directory : {in_state, Path("one")}) {
    const std::string damaged = absl::StrCat(directory, "/", kProvenanceFile);
    std::ofstream(damaged) << "nothing";
    ExpectWrong(HasSubstr(damaged));
    std::filesystem::remove(damaged);
  }
}

TEST_F(StartChecksTest, TheStateDirectoryIsLookedAtAndNotMade) {
  config_.state_dir = Path("state/of/mine");
  EXPECT_THAT(Text(),
              AllOf(HasSubstr("ok      --state-dir " + config_.state_dir + ": it will be made"),
                    Not(HasSubstr("FAILED"))));
  EXPECT_FALSE(std::filesystem::exists(Path("state")));
  std::ofstream(Path("state")) << "a file";
  for (const std::string& wrong : {Path("state"), Path("state/of/mine")}) {
    config_.state_dir = wrong;
    EXPECT_THAT(Text(), AllOf(HasSubstr("FAILED  --state-dir " + wrong),
                              HasSubstr(Path("state") + " is a file; give a directory"),
                              HasSubstr("ok      table set " + Path("one"))));
  }
}

// From here on root may write where its files' modes let it, as everybody. For a process that ends.
bool DropPrivileges() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capset, &header, none) == 0;
}

TEST_F(StartChecksTest, AStateDirectoryThatMayNotBeWrittenToIsFound) {
  std::filesystem::create_directory(Path("kept"));
  std::filesystem::permissions(
      Path("kept"), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  for (const std::string& wrong : {Path("kept"), Path("kept/state")}) {
    config_.state_dir = wrong;
    EXPECT_EXIT(
        {
          std::fputs(DropPrivileges() ? Text().c_str() : "privileges stay", stderr);
          std::_Exit(0);
        },
        ::testing::ExitedWithCode(0),
        AllOf(HasSubstr("FAILED  --state-dir " + wrong), HasSubstr("Permission denied")));
  }
}

TEST_F(StartChecksTest, WhatIsKeptOfPublicationsIsLookedAt) {
  config_.state_dir = Path("state");
  std::filesystem::create_directory(Path("state"));
  const std::string kept = Path("state/publications.json");
  std::ofstream(kept) << "{\"version\": 1, \"publications\": []}";
  EXPECT_THAT(Text(), Not(HasSubstr("FAILED")));
  std::ofstream(kept) << "{\"version\": 1,";
  EXPECT_THAT(Text(), AllOf(HasSubstr("ok      --state-dir"), HasSubstr("FAILED  " + kept),
                            HasSubstr("--ignore-recorded")));
  config_.ignore_recorded = true;
  EXPECT_THAT(Text(), Not(HasSubstr("FAILED")));
  config_.ignore_recorded = false;
  std::ofstream(kept) << "{\"version\": 1, \"publications\": [{\"name\": \"two\", \"id\": \""
                      << manifest_.id << "\", \"directory\": \"" << Path("gone")
                      << "\", \"generation\": 1}]}";
  EXPECT_THAT(Text(), AllOf(HasSubstr("FAILED  table set two"), HasSubstr(Path("gone"))));
}

// They may be published later.
TEST_F(StartChecksTest, AnAllowanceOfNoServedSetIsANote) {
  config_.allow = {{"worker-a", "one"}, {"worker-b", "*"}};
  EXPECT_THAT(CheckBeforeLoading(config_).value(), IsEmpty());
  EXPECT_THAT(Text(), Not(HasSubstr("note ")));
  config_.allow.push_back({"worker-a", "misspelt"});
  EXPECT_THAT(Text(),
              AllOf(HasSubstr("note    --allow worker-a=misspelt: no table set of this name "
                              "is served now; served: one\n"),
                    Not(HasSubstr("FAILED"))));
  EXPECT_THAT(CheckBeforeLoading(config_).value(),
              ElementsAre(HasSubstr("--allow worker-a=misspelt: ")));
  config_.table_sets.push_back(Path("none"));  // it may be the one that is meant
  EXPECT_THAT(Text(), Not(HasSubstr("note ")));
}

TEST_F(StartChecksTest, AMissingTokenFileNamesItsFlag) {
  config_.token_file = Path("tokens");
  ExpectWrong(AllOf(HasSubstr("--token-file: "), HasSubstr(Path("tokens"))));
}

TEST_F(StartChecksTest, AllThatIsWrongIsSaid) {
  config_.table_sets = {Path("none"), Path("one"), Path("one")};
  config_.token_file = Path("tokens");
  config_.shm_socket = Path("no/s");
  EXPECT_THAT(Text(),
              AllOf(HasSubstr("FAILED  table set " + Path("none")),
                    HasSubstr("ok      table set " + Path("one")), HasSubstr("is given twice"),
                    HasSubstr(Path("tokens")), HasSubstr("FAILED  --shm-socket " + Path("no/s"))));
}

TEST_F(StartChecksTest, OfMemoryNothingIsSaidWhereNoSetIsUnderstood) {
  config_.table_sets.clear();
  WriteModel("model");
  EXPECT_THAT(Text(), HasSubstr("memory for "));
  config_.family = "misspelt";
  EXPECT_THAT(Text(), AllOf(HasSubstr("FAILED  "), Not(HasSubstr("memory for "))));
}

// What is right goes to one stream and what is wrong to the other.
TEST_F(StartChecksTest, EachFindingIsInOneOfTheTexts) {
  config_.table_sets = {Path("none"), Path("one")};
  const std::vector<Finding> findings = CheckConfiguration(config_);
  EXPECT_THAT(FindingsText(findings),
              AllOf(HasSubstr("ok      table set " + Path("one")), Not(HasSubstr(Path("none")))));
  EXPECT_THAT(FailuresText(findings),
              AllOf(HasSubstr("FAILED  table set " + Path("none")), Not(HasSubstr(Path("one")))));
}

// No name makes a line of its own, or colours the terminal.
TEST_F(StartChecksTest, AFindingIsOneLine) {
  config_.table_sets = {Path("no\x1b[31m\nok      fake")};
  const std::string text = FailuresText(CheckConfiguration(config_));
  EXPECT_THAT(text, AllOf(HasSubstr("\\x1b[31m"), Not(HasSubstr("\x1b")), Not(HasSubstr("\nok"))));
}

TEST_F(StartChecksTest, MoreRowsThanTheMemoryLimitLetsAreRefused) {
  config_.memory_limit_bytes = manifest_.TableBytes();
  EXPECT_THAT(Text(), AllOf(Not(HasSubstr("FAILED")),
                            HasSubstr("note    on huge pages of 2 MiB, one or more a layer")));
  config_.memory_limit_bytes = manifest_.TableBytes() - 1;
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("more than --memory-limit-bytes ",
                                             manifest_.TableBytes() - 1)));
}

TEST_F(StartChecksTest, OfAPartItsRowsCount) {
  manifest_ = *testing::WriteSmallTableSet({.name = "one", .columns = 2}, Path("one"));
  config_.partition = PartitionIndex{0, 2};
  EXPECT_THAT(Text(), Not(HasSubstr("FAILED")));
  config_.partition = PartitionIndex{0, manifest_.scheme.Columns() + 1};
  EXPECT_THAT(Text(), HasSubstr("FAILED  table set "));
  EXPECT_FALSE(CheckBeforeLoading(config_).ok());
  config_.partition = std::vector<HeldColumns>{{manifest_.layers[0].layer, {{0, 1}}}};
  const uint64_t part =
      manifest_.scheme.layers[0].moduli[0] * uint64_t{manifest_.layers[0].row_bytes};
  config_.memory_limit_bytes = part;
  EXPECT_THAT(Text(),
              AllOf(Not(HasSubstr("FAILED")), HasSubstr(absl::StrCat("memory for ", part))));
  config_.memory_limit_bytes = part - 1;
  EXPECT_THAT(Text(), HasSubstr("more than --memory-limit-bytes"));
}

TEST_F(StartChecksTest, TheCheckpointsRowsCountForTheMemoryLimit) {
  const uint64_t bytes = WriteModel("model") + manifest_.TableBytes();
  config_.memory_limit_bytes = bytes;
  EXPECT_THAT(Text(), AllOf(Not(HasSubstr("FAILED")), HasSubstr("ok      checkpoint "),
                            HasSubstr(absl::StrCat("memory for ", bytes, " bytes"))));
  config_.memory_limit_bytes = bytes - 1;
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("more than --memory-limit-bytes ", bytes - 1)));
}

TEST_F(StartChecksTest, TheCheckpointLiesApartFromWhatIsKept) {
  const auto expect_apart = [&](const std::string& state, const std::string& model) {
    config_.state_dir = state;
    config_.checkpoint = model;
    EXPECT_THAT(Text(), Not(HasSubstr("FAILED"))) << state << " " << model;
    EXPECT_TRUE(CheckBeforeLoading(config_).ok()) << state << " " << model;
  };
  const auto expect_wrong = [&](const std::string& state, const std::string& model) {
    config_.state_dir = state;
    config_.checkpoint = model;
    ExpectWrong(AllOf(HasSubstr("--checkpoint " + model), HasSubstr(state)));
  };
  WriteModel("state/linked-checkpoint");
  expect_wrong(Path("state"), Path("state/linked-checkpoint"));
  expect_wrong(Path("state/"), Path("one/../state/linked-checkpoint/"));
  WriteModel("state/linked-checkpoint/inside");
  expect_wrong(Path("state"), Path("state/linked-checkpoint/inside"));
  std::filesystem::create_directory_symlink(Path("state"), Path("other_name"));
  expect_wrong(Path("other_name"), Path("state/linked-checkpoint"));

  WriteModel("model");
  for (const char* state : {"model", "model/", "model/state", "model/not/there"}) {
    expect_wrong(Path(state), Path("model"));
  }
  std::filesystem::create_directory(Path("third"));
  std::filesystem::create_directory_symlink(Path("model"), Path("third/linked-checkpoint"));
  expect_wrong(Path("third"), Path("model"));

  expect_apart("", Path("model"));
  expect_apart(Path("model_state"), Path("model"));
  WriteModel("kept/checkpoint");
  expect_apart(Path("kept"), Path("kept/checkpoint"));
  WriteModel("kept/linked-checkpoint-of-mine");
  expect_apart(Path("kept"), Path("kept/linked-checkpoint-of-mine"));
}

TEST_F(StartChecksTest, OneTokenMustFitABatch) {
  config_.max_batch_rows = 0;
  ExpectWrong(HasSubstr("--max-batch-rows 0 is less than one token"));
}

}  // namespace
}  // namespace engram
