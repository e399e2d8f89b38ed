// The engram command against a real engramd: exit codes, outputs, streams.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kTokens = 500;

struct Served {
  ScratchDirectory scratch;
  std::unique_ptr<EngramdProcess> engramd;
  std::string target;      // one set
  std::string two_target;  // two sets
  std::unique_ptr<EngramdProcess> two;
  std::string expected;  // rows of the first kTokens tokens
};

class CliTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    served_ = new Served;
    PackSmallSet("deepseek-v4.1-flash", 500, Path("v41"));
    PackSmallSet("longcat-flash-lite", 500, Path("longcat"));
    served_->engramd = std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", Path("v41"), "--listen", "127.0.0.1:0"});
    served_->two = std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", Path("v41"), "--table-set", Path("longcat"),
                                 "--listen", "unix:" + Path("two")});
    served_->target = "grpc:" + served_->engramd->WaitUntilServing();
    served_->two_target = "grpc:" + served_->two->WaitUntilServing();
    const auto client = Client::Attach("embedded:" + Path("v41"), {});
    ASSERT_TRUE(client.ok()) << client.status();
    served_->expected =
        ExpectedRows((*client)->table_set(), (*client)->addresser(), RealTokenIds(kTokens));
    WriteTokens("ids", RealTokenIds(kTokens));
  }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }
  // Its files and those it wrote aside are gone with the next test.
  void SetUp() override { std::filesystem::remove_all(Path("out")); }

  static std::string Path(const std::string& name) { return served_->scratch / name; }
  static void WriteTokens(const std::string& name, const std::vector<int32_t>& ids) {
    WriteFile(Path(name), {reinterpret_cast<const char*>(ids.data()), ids.size() * 4});
  }
  static Outcome Lookup(const std::string& rest) {
    return RunShell(absl::StrCat("$ENGRAM lookup --target ", served_->target, " ", rest));
  }
  static bool HasUnnamedFiles() {
    const int fd = open(Path(".").c_str(), O_TMPFILE | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
  }
  // Nothing was left of a lookup that failed: neither the output nor a part of it aside.
  static void ExpectNothingWritten() {
    for (const auto& entry : std::filesystem::directory_iterator(Path("."))) {
      EXPECT_NE(entry.path().filename().string().find("out"), 0u) << entry.path();
    }
  }

  static Served* served_;
};

Served* CliTest::served_ = nullptr;

TEST_F(CliTest, LookupWritesTheSameRowsForAnyBatchSizeAndTarget) {
  for (const std::string& target : {served_->target, "embedded:" + Path("v41"),
                                    served_->two_target + " --set deepseek-v4.1-flash"}) {
    for (const std::string batch : {"", "--batch-tokens 1", "--batch-tokens 7"}) {
      const Outcome outcome =
          RunShell(absl::StrCat("$ENGRAM lookup --target ", target, " --token-ids ", Path("ids"),
                                " --output ", Path("out"), " ", batch));
      ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
      EXPECT_TRUE(ReadFile(Path("out")) == served_->expected) << target << " " << batch;
      EXPECT_EQ(outcome.err, absl::StrCat("wrote ", Path("out"), ": 24000 rows, ",
                                          served_->expected.size(), " bytes (6.0 MiB)\n"));
    }
  }
}

TEST_F(CliTest, LookupReadsStandardInputAndWritesStandardOutput) {
  const Outcome outcome =
      Lookup("--token-ids - --output - --batch-tokens 100 < " + Path("ids") + " | cat");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == served_->expected);
  EXPECT_EQ(outcome.err, "");
}

TEST_F(CliTest, LookupWritesDirectlyToWhatIsNoRegularFile) {
  EXPECT_EQ(Lookup("--output /dev/null --token-ids " + Path("ids")).exit_code, 0);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  const Outcome pipe =
      RunShell(absl::StrCat("mkfifo ", Path("fifo"), "; cat ", Path("fifo"),
                            " & $ENGRAM lookup --target ", served_->target, " --token-ids ",
                            Path("ids"), " --output ", Path("fifo"), "; s=$?; wait; exit $s"));
  EXPECT_EQ(pipe.exit_code, 0) << pipe.err;
  EXPECT_TRUE(pipe.out == served_->expected);
  EXPECT_TRUE(std::filesystem::is_fifo(Path("fifo")));
}

TEST_F(CliTest, AReaderThatGoesAwayIsAFailure) {
  const Outcome outcome =
      Lookup("--output - --token-ids " + Path("ids") + " | head -c 10 > /dev/null");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("engram:"));
}

TEST_F(CliTest, StandardOutputThatIsLostIsAFailureOfEveryCommand) {
  const std::string ids = " --token-ids " + Path("ids");
  const std::string target = " --target embedded:" + Path("v41") + ids;
  for (const std::string& command :
       {"inspect " + Path("v41"), "inspect --json " + Path("v41"), "verify " + Path("v41"),
        "lookup --output -" + target, "bench --rounds 1" + target,
        "bench --json --rounds 1" + target, "address --output - --table-set " + Path("v41") + ids,
        std::string("--help"), std::string("bench --help")}) {
    const Outcome outcome = RunShell("$ENGRAM " + command + " > /dev/full");
    EXPECT_EQ(outcome.exit_code, 1) << command;
    EXPECT_THAT(outcome.err, HasSubstr("standard output: No space left")) << command;
  }
}

TEST_F(CliTest, AnUnknownCommandListsThoseThereAre) {
  for (const std::string line : {"$ENGRAM nope", "$ENGRAM"}) {
    const Outcome outcome = RunShell(line);
    EXPECT_EQ(outcome.exit_code, 2) << line;
    EXPECT_THAT(outcome.err, HasSubstr("pack, verify, inspect, partition-plan, token-map, address"))
        << line;
  }
}

TEST_F(CliTest, ItSaysItsVersion) {
  const Outcome outcome = RunShell("$ENGRAM --version");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, absl::StrCat("engram ", SdkVersion(), "\n"));
}

TEST_F(CliTest, ALookupThatIsKilledLeavesNothing) {
  if (!HasUnnamedFiles()) GTEST_SKIP() << "this file system has no files without a name";
  // It waits for more tokens than come, with its output open and half of it written.
  const Outcome outcome = RunShell(absl::StrCat(
      "mkfifo ", Path("tokens"), "; $ENGRAM lookup --batch-tokens 10 --target ", served_->target,
      " --token-ids ", Path("tokens"), " --output ", Path("out"), " & p=$!; exec 3> ",
      Path("tokens"), "; cat ", Path("ids"), " >&3; until ls -l /proc/$p/fd | grep -q '", Path("#"),
      "' || ! kill -0 $p; do sleep 0.01; done; ", "kill -TERM $p; wait $p"));
  EXPECT_EQ(outcome.exit_code, 128 + SIGTERM) << outcome.err;
  ExpectNothingWritten();
}

TEST_F(CliTest, NoTokensAreNoRows) {
  const Outcome outcome = Lookup("--token-ids /dev/null --output " + Path("out"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(ReadFile(Path("out")), IsEmpty());
}

TEST_F(CliTest, ABadTokenFailsAndLeavesNothing) {
  std::vector<int32_t> ids = RealTokenIds(kTokens);
  for (const int32_t bad : {129'280, -1}) {
    ids[kTokens - 10] = bad;
    WriteTokens("bad", ids);
    const Outcome outcome =
        Lookup("--batch-tokens 64 --token-ids " + Path("bad") + " --output " + Path("out"));
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat("token id ", bad)));
    ExpectNothingWritten();
  }
}

TEST_F(CliTest, AFileThatIsNoTokenIdsFailsAndKeepsWhatWasThere) {
  WriteFile(Path("torn"), std::string(4 * 100 + 3, '\0'));
  WriteFile(Path("kept"), "as it was");
  const Outcome torn = Lookup("--token-ids " + Path("torn") + " --output " + Path("kept"));
  EXPECT_EQ(torn.exit_code, 1);
  EXPECT_THAT(torn.err, HasSubstr(Path("torn")));
  EXPECT_EQ(ReadFile(Path("kept")), "as it was");
  const Outcome missing = Lookup("--token-ids " + Path("none") + " --output " + Path("out"));
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr(Path("none")));
  ExpectNothingWritten();
}

TEST_F(CliTest, DeadPositionsBlockTheWindowAcrossBatches) {
  std::string mask(kTokens, '\0');
  mask[70] = mask[71] = 1;
  WriteFile(Path("mask"), mask);
  const std::string masked = "--dead-mask " + Path("mask") + " --token-ids " + Path("ids");
  std::string whole;
  for (const std::string batch : {"500", "71", "3"}) {
    const Outcome outcome = Lookup(masked + " --output - --batch-tokens " + batch);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    if (whole.empty()) whole = outcome.out;
    EXPECT_TRUE(outcome.out == whole) << batch;
  }
  EXPECT_FALSE(whole == served_->expected);
  WriteFile(Path("mask"), mask.substr(1));
  EXPECT_EQ(Lookup(masked + " --output " + Path("out")).exit_code, 1);
  ExpectNothingWritten();
  WriteFile(Path("mask"), std::string(kTokens, '\1'));
  EXPECT_THAT(Lookup(masked + " --output " + Path("out")).err, HasSubstr("all tokens are dead"));
  WriteFile(Path("mask"), mask);
  for (const std::string& command : {"lookup --output " + Path("out"), std::string("bench")}) {
    const Outcome refused = RunShell(absl::StrCat(
        "$ENGRAM ", command, " --target ", served_->two_target,
        " --set longcat-flash-lite --token-ids ", Path("ids"), " --dead-mask ", Path("mask")));
    EXPECT_EQ(refused.exit_code, 2) << command;
    EXPECT_THAT(refused.err, HasSubstr("no dead positions")) << command;
  }
}

TEST_F(CliTest, ColumnsAreThoseOfTheWhole) {
  constexpr size_t kColumns = 24, kRowBytes = 264, kLayers = 2;
  std::string columns;
  for (size_t group = 0; group < kTokens * kLayers; ++group) {
    for (const size_t column : {0, 1, 8, 9, 23}) {
      columns += served_->expected.substr((group * kColumns + column) * kRowBytes, kRowBytes);
    }
  }
  const std::string rest = " --token-ids " + Path("ids") + " --output ";
  const Outcome outcome = Lookup("--columns 0..1,8..9,23 --batch-tokens 70" + rest + "-");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == columns);
  for (const auto& [wrong, what] : {std::pair{"0..24", "beyond the layer's 24 columns"},
                                    {"0..2,1..3", "overlaps"},
                                    {"two", "\"two\" is no run of columns"},
                                    {"''", "no columns are named"}}) {
    const Outcome refused = Lookup(absl::StrCat("--columns ", wrong, rest, Path("out")));
    EXPECT_EQ(refused.exit_code, 2) << wrong;
    EXPECT_THAT(refused.err, AllOf(HasSubstr("--columns"), HasSubstr(what)));
    ExpectNothingWritten();
  }
}

TEST_F(CliTest, OneStandardInputIsNotTwoFiles) {
  const Outcome outcome =
      Lookup("--token-ids - --dead-mask - --output " + Path("out") + " < " + Path("ids"));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("--dead-mask"), std::string::npos) << outcome.err;
  ExpectNothingWritten();
}

TEST_F(CliTest, SeveralSetsAndNoneChosenIsBadUsageThatListsThem) {
  const std::string rest = " --token-ids " + Path("ids") + " --output " + Path("out");
  const Outcome none = RunShell("$ENGRAM lookup --target " + served_->two_target + rest);
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, AllOf(HasSubstr("deepseek-v4.1-flash"), HasSubstr("longcat-flash-lite"),
                              HasSubstr("--set")));
  const Outcome wrong =
      RunShell("$ENGRAM lookup --set other --target " + served_->two_target + rest);
  // The command was written well, and the set is not there.
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("longcat-flash-lite"));
  for (const std::string& target : {served_->two_target, "embedded:" + Path("v41")}) {
    const Outcome bench = RunShell(
        absl::StrCat("$ENGRAM bench --set other --target ", target, " --token-ids ", Path("ids")));
    EXPECT_EQ(bench.exit_code, 1) << target << bench.err;
  }
  ExpectNothingWritten();
}

TEST_F(CliTest, BadUsageIs2AndAFailedAttach1) {
  const std::string rest = " --token-ids " + Path("ids") + " --output " + Path("out");
  for (const std::string& line :
       {"$ENGRAM lookup" + rest, "$ENGRAM lookup --target rdma:/x" + rest,
        "$ENGRAM lookup --target " + served_->target,
        "$ENGRAM lookup --no-such-flag --target " + served_->target + rest,
        "$ENGRAM lookup --batch-tokens 0 --target " + served_->target + rest,
        "$ENGRAM lookup --attach-timeout soon --target " + served_->target + rest,
        "$ENGRAM lookup --attach-timeout nan --target " + served_->target + rest,
        "$ENGRAM bench --seconds nan --target " + served_->target + " --token-ids " +
            Path("ids")}) {
    EXPECT_EQ(RunShell(line).exit_code, 2) << line;
  }
  EXPECT_THAT(RunShell("$ENGRAM lookup --target rdma:/x" + rest).err, HasSubstr("grpc:HOST:PORT"));
  const Outcome absent =
      RunShell("$ENGRAM lookup --attach-timeout 200ms --target grpc:unix:" + Path("nobody") + rest);
  EXPECT_EQ(absent.exit_code, 1);
  EXPECT_THAT(absent.err, HasSubstr(Path("nobody")));
  const Outcome missing = RunShell("$ENGRAM lookup --target embedded:" + Path("none") + rest);
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr(Path("none")));
  ExpectNothingWritten();
}

TEST_F(CliTest, BenchComparesPathsToOneSetWithTheFirst) {
  const std::string embedded = "embedded:" + Path("v41");
  const std::string unary = "unary@" + served_->target;
  const std::string bench = absl::StrCat(
      "$ENGRAM bench --seconds 0.1 --batch-tokens 1,8 --token-ids ", Path("ids"), " --target ");
  const Outcome outcome = RunShell(
      absl::StrCat(bench, embedded, " --json --compare ", served_->target, " --compare ", unary));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  std::vector<std::string> paths;
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line);
    paths.push_back(object["path"]);
    EXPECT_EQ(object["ceiling"], embedded);
    for (const char* ratio : {"ratio_rows_per_s", "ratio_p50"}) {
      if (object["path"] == embedded) {
        EXPECT_EQ(object[ratio], 1);
      } else {
        EXPECT_GT(object[ratio], 0);
        EXPECT_NE(object[ratio], 1);
      }
    }
  }
  EXPECT_EQ(paths, (std::vector<std::string>{embedded, served_->target, unary, embedded,
                                             served_->target, unary}));
  // A table has the ratios before all else.
  EXPECT_THAT(RunShell(absl::StrCat(bench, embedded, " --compare ", unary)).out,
              testing::StartsWith("x rows/s"));

  const Outcome others =
      RunShell(absl::StrCat(bench, embedded, " --compare embedded:", Path("longcat")));
  EXPECT_EQ(others.exit_code, 2);
  EXPECT_THAT(others.err, HasSubstr("compare paths to one set"));
  EXPECT_EQ(RunShell(absl::StrCat(bench, embedded, " --compare ring@", embedded)).exit_code, 2);
}

TEST_F(CliTest, BenchPrintsOneJsonObjectALine) {
  const std::set<std::string> keys = {"path",       "batch_tokens", "rounds",
                                      "p50_us",     "p99_us",       "p999_us",
                                      "rows_per_s", "gb_per_s",     "distinct_share"};
  struct Case {
    std::string flags, path;
  };
  for (const Case& one :
       {Case{"--target " + served_->target, "grpc"},
        Case{"--mode unary --clients 2 --in-flight 3 --target " + served_->target, "grpc-unary"},
        Case{"--from-token-ids --target embedded:" + Path("v41"), "embedded"}}) {
    const Outcome outcome =
        RunShell(absl::StrCat("$ENGRAM bench --json --seconds 0.1 --batch-tokens 1,8 --token-ids ",
                              Path("ids"), " ", one.flags));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    std::istringstream lines(outcome.out);
    std::vector<int> batches;
    for (std::string line; std::getline(lines, line);) {
      const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      ASSERT_TRUE(object.is_object()) << line;
      std::set<std::string> found;
      for (const auto& item : object.items()) found.insert(item.key());
      EXPECT_EQ(found, keys);
      EXPECT_EQ(object["path"], one.path);
      batches.push_back(object["batch_tokens"]);
      EXPECT_GT(object["rounds"], 0);
      EXPECT_LE(object["p50_us"], object["p99_us"]);
      EXPECT_LE(object["p99_us"], object["p999_us"]);
      EXPECT_GT(object["rows_per_s"], 0);
      EXPECT_GT(object["distinct_share"], 0);
      EXPECT_LE(object["distinct_share"], 1);
    }
    EXPECT_EQ(batches, (std::vector<int>{1, 8}));
  }
}

TEST_F(CliTest, BenchRunsAsManyRoundsAsItIsTold) {
  for (const std::string& flags :
       {"--target " + served_->target, "--clients 3 --target " + served_->target,
        "--clients 2 --in-flight 4 --target " + served_->target,
        "--in-flight 4 --target embedded:" + Path("v41")}) {
    for (const int rounds : {1, 2, 25}) {
      const Outcome outcome =
          RunShell(absl::StrCat("$ENGRAM bench --json --batch-tokens 8 --rounds ", rounds,
                                " --token-ids ", Path("ids"), " ", flags));
      ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
      const auto object = nlohmann::json::parse(outcome.out, nullptr, /*allow_exceptions=*/false);
      EXPECT_EQ(object["rounds"], rounds) << flags;
    }
  }
  for (const int rounds : {1, 2, 4, 7}) {
    const Outcome compared = RunShell(absl::StrCat(
        "$ENGRAM bench --json --batch-tokens 8 --rounds ", rounds, " --token-ids ", Path("ids"),
        " --target embedded:", Path("v41"), " --compare embedded:", Path("v41")));
    std::istringstream lines(compared.out);
    for (std::string line; std::getline(lines, line);) {
      EXPECT_EQ(nlohmann::json::parse(line, nullptr, false)["rounds"], rounds) << compared.err;
    }
    EXPECT_EQ(std::count(compared.out.begin(), compared.out.end(), '\n'), 2) << compared.err;
  }
  EXPECT_EQ(RunShell(absl::StrCat("$ENGRAM bench --rounds 1 --seconds 1 --token-ids ", Path("ids"),
                                  " --target ", served_->target))
                .exit_code,
            2);
}

TEST_F(CliTest, BenchRefusesMoreMemoryThanItMayTake) {
  const std::string rest = absl::StrCat(" --batch-tokens 1,500 --token-ids ", Path("ids"),
                                        " --target ", served_->target);
  const Outcome bytes = RunShell("$ENGRAM bench --clients 4 --in-flight 256" + rest);
  EXPECT_EQ(bytes.exit_code, 2);
  EXPECT_THAT(bytes.err, AllOf(HasSubstr("--clients 4"), HasSubstr("--in-flight 256"),
                               HasSubstr("--batch-tokens 500"), HasSubstr("lower one")));
  const Outcome threads = RunShell("$ENGRAM bench --clients 5 --in-flight 256" + rest);
  EXPECT_EQ(threads.exit_code, 2);
  EXPECT_THAT(threads.err, AllOf(HasSubstr("1280 batches at once"), HasSubstr("lower one")));
}

TEST_F(CliTest, MemoryThatRunsOutIsAnError) {
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  GTEST_SKIP() << "AddressSanitizer reserves more address space than the limit";
#endif
  // 40 batches of 5,000 tokens are 2.5 GB.
  WriteTokens("many", RealTokenIds(5000));
  const Outcome outcome = RunShell(
      absl::StrCat("ulimit -v 1500000; $ENGRAM bench --clients 1 --in-flight 40 --batch-tokens ",
                   "5000 --token-ids ", Path("many"), " --target ", served_->target));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("out of memory"));
}

TEST_F(CliTest, BenchPrintsATableForPeople) {
  const Outcome outcome =
      RunShell(absl::StrCat("$ENGRAM bench --seconds 0.1 --batch-tokens 4 --token-ids ",
                            Path("ids"), " --target ", served_->target));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("p50/us"), HasSubstr("GiB/s"), HasSubstr("grpc")));
}

TEST_F(CliTest, BatchesKeepToWhatTheTargetTakes) {
  // 100 rows a batch: two tokens of 48.
  EngramdProcess small(
      {"--table-set", Path("v41"), "--listen", "unix:" + Path("small"), "--max-batch-rows", "100"});
  const std::string rest =
      absl::StrCat(" --target grpc:", small.WaitUntilServing(), " --token-ids ", Path("ids"));
  const Outcome by_default = RunShell("$ENGRAM lookup --output -" + rest);
  EXPECT_EQ(by_default.exit_code, 0) << by_default.err;
  EXPECT_TRUE(by_default.out == served_->expected);
  for (const std::string& command :
       {"lookup --output " + Path("out"), std::string("bench --rounds 1 --json")}) {
    const auto ask = [&](const std::string& batch) {
      return RunShell("$ENGRAM " + command + " --batch-tokens " + batch + rest);
    };
    const Outcome asked = ask("3");
    EXPECT_EQ(asked.exit_code, 2);
    EXPECT_THAT(asked.err, AllOf(HasSubstr("--batch-tokens 3"), HasSubstr("give at most 2")));
    // Two columns of two layers: 25 tokens have 100 rows.
    EXPECT_THAT(ask("26 --columns 0..1").err, HasSubstr("give at most 25"));
    ExpectNothingWritten();
    const Outcome sliced = ask("25 --columns 0,8");
    EXPECT_EQ(sliced.exit_code, 0) << sliced.err;
    if (std::filesystem::remove(Path("out"))) continue;  // lookup's
    EXPECT_EQ(nlohmann::json::parse(sliced.out, nullptr, false)["columns"], "0,8");
    EXPECT_EQ(ask("25 --columns 0,8 --from-token-ids").exit_code, 0);
  }
}

TEST_F(CliTest, BenchExplainsItsColumnsAndRefusesThoseOfNoLayer) {
  EXPECT_THAT(
      RunShell("$ENGRAM bench --help").out,
      AllOf(HasSubstr("Columns of the table:"), HasSubstr("distinct "), HasSubstr("0 to 10000")));
  const Outcome refused = RunShell("$ENGRAM bench --columns 24 --token-ids " + Path("ids") +
                                   " --target " + served_->target);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--columns: run 0 of the slice"));
}

TEST_F(CliTest, BenchRefusesAModeThatTheTargetHasNot) {
  const Outcome outcome = RunShell(absl::StrCat("$ENGRAM bench --mode unary --token-ids ",
                                                Path("ids"), " --target embedded:", Path("v41")));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("mode unary is none of this target's: it has no modes"));
}

TEST_F(CliTest, BenchRefusesAStreamShorterThanABatch) {
  const Outcome outcome = RunShell(absl::StrCat("$ENGRAM bench --batch-tokens 501 --token-ids ",
                                                Path("ids"), " --target ", served_->target));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("501"));
}

}  // namespace
}  // namespace engram::integration
