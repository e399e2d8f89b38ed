// Programs that are started without standard streams: the numbers 0, 1 and 2 then go to what is
// opened first, unless something is there.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

constexpr size_t kTokens = 50;

class ClosedStreams : public ::testing::Test {
 protected:
  ClosedStreams() {
    PackSmallSet("qwen4-exp", 500, Set());
    const std::vector<int32_t> ids = RealTokenIds(kTokens);
    WriteFile(Ids(), {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(ids[0])});
  }
  std::string Set() const { return scratch_ / "set"; }
  std::string Ids() const { return scratch_ / "ids"; }
  std::string Socket() const { return scratch_ / "s"; }

  std::unique_ptr<EngramdProcess> Start(const std::string& redirections) const {
    return std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", Set(), "--listen", "unix:" + (scratch_ / "l"),
                                 "--shm-socket", Socket()},
        std::vector<std::string>{"bash", "-c", "exec \"$0\" \"$@\" " + redirections});
  }
  // Rows of the ids through shared memory, waited for until engramd serves.
  void ExpectServesExactly() const {
    const auto client = Client::Attach("shm:" + Socket(), {.timeout = absl::Seconds(60)});
    ASSERT_TRUE(client.ok()) << client.status();
    const std::vector<int32_t> ids = RealTokenIds(kTokens);
    const auto rows = LookUp(**client, ids, MonotonicTime::Infinite());
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows((*client)->table_set(), (*client)->addresser(), ids));
  }

  ScratchDirectory scratch_;
};

TEST_F(ClosedStreams, EngramdsNumbersGoToNoTable) {
  struct Case {
    std::string redirections;
    std::vector<int> closed;
  };
  for (const Case& one : {Case{"<&- >&- 2>&-", {0, 1, 2}}, Case{"< /dev/zero >&- 2>&-", {1, 2}},
                          Case{"< /dev/zero 2>&-", {2}}}) {
    const std::unique_ptr<EngramdProcess> engramd = Start(one.redirections);
    ExpectServesExactly();
    for (const int number : one.closed) {
      EXPECT_EQ(
          std::filesystem::read_symlink(absl::StrCat("/proc/", engramd->pid(), "/fd/", number)),
          "/dev/null")
          << one.redirections << " " << number;
    }
  }
}

TEST_F(ClosedStreams, WhatIsPackedWithoutThemIsExact) {
  const Outcome packed = RunShell(
      absl::StrCat("$ENGRAM pack --synthetic --family qwen4-exp --rows-per-head 500 --output ",
                   scratch_ / "other", " <&- >&- 2>&-"));
  EXPECT_EQ(packed.exit_code, 0);
  EXPECT_EQ(ReadFile(scratch_ / "other/manifest.sha256"), ReadFile(Set() + "/manifest.sha256"));
  const Outcome verified = RunShell("$ENGRAM verify " + (scratch_ / "other"));
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
}

TEST_F(ClosedStreams, RowsForAClosedStandardOutputAreAFailure) {
  const std::unique_ptr<EngramdProcess> engramd = Start("");
  ExpectServesExactly();
  WriteFile(scratch_ / "none", "");
  for (const std::string& target :
       {"shm:" + Socket(), "grpc:unix:" + (scratch_ / "l"), "embedded:" + Set()}) {
    for (const std::string& ids : {Ids(), scratch_ / "none"}) {
      for (const std::string output : {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
        const Outcome outcome =
            RunShell(absl::StrCat("$ENGRAM lookup --target ", target, " --token-ids ", ids,
                                  " --output ", output, " < /dev/zero >&-"));
        EXPECT_EQ(outcome.exit_code, 1) << target << " " << output;
        EXPECT_THAT(outcome.err, HasSubstr("standard output is closed")) << target << " " << output;
      }
    }
  }
}

TEST_F(ClosedStreams, TokensFromAClosedStandardInputAreAFailure) {
  for (const std::string input : {"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}) {
    for (const std::string& command :
         {"lookup --target embedded:" + Set(), "address --table-set " + Set()}) {
      const Outcome outcome = RunShell(
          absl::StrCat("$ENGRAM ", command, " --token-ids ", input, " --output /dev/null <&-"));
      EXPECT_EQ(outcome.exit_code, 1) << command << " " << input;
      EXPECT_THAT(outcome.err, HasSubstr("standard input is closed")) << command << " " << input;
    }
  }
}

TEST_F(ClosedStreams, TextForAClosedOrFullStandardOutputIsAFailure) {
  const std::string looked_up =
      " --batch-tokens 8 --token-ids " + Ids() + " --target embedded:" + Set();
  const std::string engramd = "server/engramd --listen 127.0.0.1:0 --table-set " + Set();
  const std::string simulate =
      "gpu/simulator/engram_worker simulate --seconds 0.1 --rows resident --rows-per-head 1000 "
      "--engramd server/engramd";
  for (const std::string& line :
       {std::string("$ENGRAM --help"), std::string("$ENGRAM --version"),
        std::string("$ENGRAM bench --help"), "$ENGRAM inspect " + Set(),
        "$ENGRAM inspect --json " + Set(), "$ENGRAM verify " + Set(),
        "$ENGRAM bench --rounds 1" + looked_up, "$ENGRAM bench --json --rounds 1" + looked_up,
        "$ENGRAM address --output - --token-ids " + Ids() + " --table-set " + Set(),
        std::string("server/engramd --help"), std::string("server/engramd --version"),
        engramd + " --print-config", engramd + " --check-config",
        std::string("gpu/simulator/engram_worker --help"),
        std::string("gpu/simulator/engram_worker simulate --help"), simulate,
        "gpu/examples/example_worker embedded:" + Set() + " < " + Ids()}) {
    const Outcome closed = RunShell(line + " >&-");
    EXPECT_EQ(closed.exit_code, 1) << line;
    EXPECT_THAT(closed.err, HasSubstr("standard output is closed")) << line;
    const Outcome full = RunShell(line + " > /dev/full");
    EXPECT_EQ(full.exit_code, 1) << line;
    EXPECT_THAT(full.err, HasSubstr("standard output: ")) << line;
  }
}

TEST_F(ClosedStreams, TheExampleWorkerNeedsItsInput) {
  const Outcome outcome = RunShell("gpu/examples/example_worker embedded:" + Set() + " <&-");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("standard input is closed"));
}

}  // namespace
}  // namespace engram::integration
