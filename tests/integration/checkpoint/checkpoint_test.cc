// A released model that is served without a second copy of its rows: `engramd --checkpoint`, and
// `engram pack --link`.
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/base/clock.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/synthetic.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kFamily[] = "qwen4-exp";
constexpr uint64_t kRowsPerHead = 500;
constexpr uint32_t kRowBytes = 320;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(Tmp());
    const LayerAddressing layer =
        Derive(**FindFamily(kFamily), {kRowsPerHead, {}}).value().layers[0];
    // Rows by the rule that made-up ones have, so that each proves itself.
    std::string rows(layer.Rows() * kRowBytes, '\0');
    SyntheticRows(layer.layer, 0, kRowBytes,
                  {reinterpret_cast<std::byte*>(rows.data()), rows.size()});
    testing_checkpoint::WriteCheckpoint(
        Model(), {{"model.safetensors", {testing_checkpoint::QwenTable(std::move(rows))}}});
  }
  std::string Model() const { return scratch_ / "model"; }
  std::string Tmp() const { return scratch_ / "tmp"; }
  std::string Socket() const { return "unix:" + (scratch_ / "s"); }
  std::vector<std::string> Flags() const {
    return {"--checkpoint", Model(),           "--family",
            kFamily,        "--rows-per-head", absl::StrCat(kRowsPerHead),
            "--listen",     Socket()};
  }
  std::vector<std::string> Through() const { return {"env", "TMPDIR=" + Tmp()}; }
  std::vector<std::string> With(const std::vector<std::string>& more) const {
    std::vector<std::string> flags = Flags();
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }
  void ExpectExactRows(const std::string& target) {
    const auto client = Client::Attach(target, {});
    ASSERT_TRUE(client.ok()) << client.status();
    const std::vector<int32_t> ids = RealTokenIds(300);
    const auto rows = LookUp(**client, ids, RealClock().Now() + absl::Seconds(60));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows((*client)->table_set(), (*client)->addresser(), ids));
  }

  ScratchDirectory scratch_;
};

TEST_F(CheckpointTest, EngramdServesItAndLeavesNothing) {
  EngramdProcess engramd(Flags(), Through());
  ASSERT_FALSE(engramd.WaitUntilServing().empty()) << engramd.Log();
  ASSERT_EQ(std::distance(fs::directory_iterator(Tmp()), {}), 1);
  const fs::path own = fs::directory_iterator(Tmp())->path();
  struct stat stat;
  ASSERT_EQ(::stat(own.c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 0777, 0700u);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(own)) {
    EXPECT_NE(entry.path().extension(), ".rows") << entry.path();
  }
  ExpectExactRows("grpc:" + Socket());
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
  EXPECT_TRUE(fs::is_empty(Tmp()));
}

TEST_F(CheckpointTest, SigtermBeforeItServesLeavesNothing) {
  EngramdProcess engramd(Flags(), Through());
  ASSERT_TRUE(engramd.WaitForLine("looking for links"));
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0) << engramd.Log();
  EXPECT_TRUE(fs::is_empty(Tmp()));
}

// Nobody told it to stop, so the next one cleans up, and leaves what is another living one's.
TEST_F(CheckpointTest, TheNextStartRemovesWhatAKilledOneLeft) {
  EngramdProcess living(Flags(), Through());
  ASSERT_FALSE(living.WaitUntilServing().empty()) << living.Log();
  const fs::path own = fs::directory_iterator(Tmp())->path();
  std::vector<std::string> flags = Flags();
  flags.back() = "unix:" + (scratch_ / "t");
  const auto directories = [&] { return std::distance(fs::directory_iterator(Tmp()), {}); };
  for (int start = 0; start < 2; ++start) {
    EngramdProcess killed(flags, Through());
    ASSERT_FALSE(killed.WaitUntilServing().empty()) << killed.Log();
    EXPECT_EQ(directories(), 2);
    killed.Signal(SIGKILL);
    killed.WaitForEnd();
    EXPECT_EQ(directories(), 2);
  }
  EXPECT_TRUE(fs::exists(own / "linked-checkpoint"));
}

TEST_F(CheckpointTest, ARefusalLeavesNothing) {
  fs::remove(fs::path(Model()) / "model.safetensors");
  EngramdProcess engramd(Flags(), Through());
  EXPECT_EQ(engramd.WaitForEnd(), 1);
  EXPECT_THAT(engramd.Log(), HasSubstr("model.safetensors"));
  EXPECT_TRUE(fs::is_empty(Tmp()));
}

TEST_F(CheckpointTest, AStateDirectoryIsOneEngramds) {
  EngramdProcess first(With({"--state-dir", scratch_ / "state"}), Through());
  ASSERT_FALSE(first.WaitUntilServing().empty()) << first.Log();
  EngramdProcess second(
      {"--checkpoint", Model(), "--family", kFamily, "--rows-per-head", absl::StrCat(kRowsPerHead),
       "--listen", "unix:" + (scratch_ / "t"), "--state-dir", scratch_ / "state"},
      Through());
  EXPECT_EQ(second.WaitForEnd(), 1);
  EXPECT_THAT(second.Log(), HasSubstr("another engramd keeps its files in --state-dir"));
  ExpectExactRows("grpc:" + Socket());
}

TEST_F(CheckpointTest, AStateDirectoryKeepsTheLinks) {
  const auto starts_with = [&](const std::string& line) {
    EngramdProcess engramd(With({"--state-dir", scratch_ / "state"}), Through());
    ASSERT_FALSE(engramd.WaitUntilServing().empty()) << engramd.Log();
    EXPECT_THAT(engramd.Log(), HasSubstr(line));
    ExpectExactRows("grpc:" + Socket());
    engramd.Signal(SIGTERM);
    EXPECT_EQ(engramd.WaitForEnd(), 0);
    EXPECT_TRUE(fs::is_empty(Tmp()));
  };
  starts_with("is linked to");
  const Outcome inspected =
      RunShell("$ENGRAM inspect --json " + (scratch_ / "state/linked-checkpoint"));
  const nlohmann::json json = nlohmann::json::parse(inspected.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << inspected.out << inspected.err;
  EXPECT_EQ(json["read_from"]["files"][0]["path"], "model.safetensors");
  starts_with("is unchanged since it was linked");
  const fs::path file = fs::path(Model()) / "model.safetensors";
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  starts_with("linked anew");
}

TEST_F(CheckpointTest, AModelWhereTheLinksWouldBeKeptStays) {
  const fs::path state = scratch_ / "state", set = state / "linked-checkpoint";
  fs::create_directories(set);
  fs::copy(Model(), set, fs::copy_options::recursive);
  for (const std::string& model : {set.string(), Model()}) {
    std::vector<std::string> flags = With({"--state-dir", state.string()});
    flags[1] = model;
    EngramdProcess engramd(flags, Through());
    EXPECT_EQ(engramd.WaitForEnd(), 1) << engramd.Log();
    EXPECT_THAT(engramd.Log(), HasSubstr(set.string()));
    EXPECT_TRUE(fs::exists(set / "model.safetensors"));
  }
}

TEST_F(CheckpointTest, CheckConfigLooksAtIt) {
  const auto check = [&](const std::vector<std::string>& flags) {
    EngramdProcess engramd(flags, Through());
    const int code = engramd.WaitForEnd();
    return absl::StrCat(code, " ", engramd.Log());
  };
  EXPECT_THAT(check(With({"--check-config"})), ::testing::StartsWith("0 "));
  const std::string set = scratch_ / "packed";
  PackSmallSet(kFamily, kRowsPerHead, set);
  EXPECT_THAT(check(With({"--check-config", "--table-set", set})),
              ::testing::AllOf(::testing::StartsWith("2 "), HasSubstr(set), HasSubstr(kFamily)));
  fs::remove(fs::path(Model()) / "model.safetensors");
  fs::remove(fs::path(Model()) / "model.safetensors.index.json");
  testing_checkpoint::WriteText(fs::path(Model()) / "model.gguf", "GGUF\3");
  EXPECT_THAT(check(With({"--check-config"})),
              ::testing::AllOf(::testing::StartsWith("2 "), HasSubstr("GGUF"),
                               HasSubstr("(flags of `engram pack`: make the set")));
  EXPECT_TRUE(fs::is_empty(Tmp()));
}

TEST_F(CheckpointTest, PackLinksAndEveryCommandTakesTheSet) {
  const std::string set = scratch_ / "linked";
  const std::string pack = absl::StrCat("$ENGRAM pack --family ", kFamily, " --rows-per-head ",
                                        kRowsPerHead, " --output ");
  const Outcome linked = RunShell(absl::StrCat(pack, set, " --link ", Model()));
  ASSERT_EQ(linked.exit_code, 0) << linked.err;
  EXPECT_THAT(linked.err, HasSubstr("which stay in " + Model()));
  const Outcome packed =
      RunShell(absl::StrCat(pack, scratch_ / "packed", " --checkpoint ", Model()));
  ASSERT_EQ(packed.exit_code, 0) << packed.err;
  EXPECT_EQ(ReadFile(set + "/manifest.textproto"),
            ReadFile(scratch_ / "packed/manifest.textproto"));
  const Outcome verified = RunShell("$ENGRAM verify " + set);
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  ExpectExactRows("embedded:" + set);

  const std::string model = fs::canonical(Model());
  const Outcome inspected = RunShell("$ENGRAM inspect --json " + set);
  const nlohmann::json json = nlohmann::json::parse(inspected.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << inspected.out << inspected.err;
  EXPECT_EQ(json["linked_to"]["folders"], nlohmann::json({model}));
  EXPECT_EQ(json["linked_to"]["files"][0]["path"], model + "/model.safetensors");
  EXPECT_THAT(RunShell("$ENGRAM inspect " + set).out, HasSubstr("linked  to files in " + model));
  const Outcome of_packed = RunShell("$ENGRAM inspect --json " + (scratch_ / "packed"));
  const nlohmann::json packed_json = nlohmann::json::parse(of_packed.out, nullptr, false);
  ASSERT_TRUE(packed_json.is_object()) << of_packed.out << of_packed.err;
  EXPECT_TRUE(packed_json["linked_to"].is_null());
  EXPECT_EQ(json["read_from"]["files"][0]["path"], "model.safetensors");
  EXPECT_EQ(json["read_from"], packed_json["read_from"]);

  fs::rename(Model(), scratch_ / "moved");
  const Outcome moved = RunShell("$ENGRAM verify " + set);
  EXPECT_EQ(moved.exit_code, 1);
  EXPECT_THAT(moved.err, HasSubstr(model + "/model.safetensors"));
  EXPECT_EQ(RunShell(absl::StrCat(pack, scratch_ / "x", " --link a --checkpoint b")).exit_code, 2);
}

}  // namespace
}  // namespace engram::integration
