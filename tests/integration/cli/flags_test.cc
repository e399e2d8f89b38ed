// What the commands say of flags: values that cannot be, empty ones, what is read from the
// environment, what was meant.
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr size_t kTokens = 20;

class FlagsTest : public ::testing::Test {
 protected:
  FlagsTest() {
    PackSmallSet("deepseek-v4.1-flash", 500, Path("v41"));
    const std::vector<int32_t> ids = RealTokenIds(kTokens);
    WriteFile(Path("ids"), {reinterpret_cast<const char*>(ids.data()), ids.size() * 4});
  }
  std::string Path(const std::string& name) const { return scratch_ / name; }
  std::string Embedded() const { return "embedded:" + Path("v41"); }
  Outcome Bench(const std::string& flags) const {
    return RunShell(absl::StrCat("$ENGRAM bench --rounds 1 --batch-tokens 1 --token-ids ",
                                 Path("ids"), " ", flags));
  }

  const ScratchDirectory scratch_;
};

TEST_F(FlagsTest, BenchTakesAsManyConnectionsAndStreamsAsThereCanBeForAnyTarget) {
  for (const std::string& target :
       {std::string("grpc:127.0.0.1:1"), Embedded(), std::string("auto:127.0.0.1:1")}) {
    for (const std::string flag : {"--connections", "--streams"}) {
      for (const std::string wrong : {"0", "17", "4000000000", "-1"}) {
        const Outcome outcome =
            Bench(absl::StrCat(flag, " ", wrong, " --attach-timeout 0 --target ", target));
        EXPECT_EQ(outcome.exit_code, 2) << flag << " " << wrong << " " << target;
        EXPECT_THAT(outcome.err, HasSubstr(flag));
      }
    }
  }
}

TEST_F(FlagsTest, BenchSaysWhereItsMetricsAreShownInPlainText) {
  const std::string bench = absl::StrCat("--target ", Embedded(), " --metrics-listen ");
  const Outcome all = Bench(bench + "0.0.0.0:0");
  EXPECT_EQ(all.exit_code, 0) << all.err;
  EXPECT_THAT(all.err, HasSubstr("--metrics-listen 0.0.0.0:0: whoever reaches this machine"));
  for (const std::string own : {"127.0.0.1:0", "localhost:0"}) {
    const Outcome outcome = Bench(bench + own);
    EXPECT_EQ(outcome.exit_code, 0) << own << outcome.err;
    EXPECT_EQ(outcome.err, "");
  }
}

// It ends at once, for nobody could read what it would measure.
TEST_F(FlagsTest, BenchSaysHowLongItTakesWhereThatIsLong) {
  const Outcome outcome =
      RunShell(absl::StrCat("$ENGRAM bench --seconds 3600 --batch-tokens 1,4 --token-ids ",
                            Path("ids"), " --target ", Embedded(), " > /dev/full"));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err,
              HasSubstr("note: this takes 2 h 0 min: 60 min for each of 2 batch sizes\n"));
}

// What a script's variable was to hold and does not.
TEST_F(FlagsTest, AnEmptyValueIsNoFlagThatWasLeftOut) {
  for (const std::string flag :
       {"--set", "--tls-ca", "--tls-cert", "--tls-key", "--token-file", "--tls-server-name"}) {
    const Outcome outcome =
        Bench(absl::StrCat(flag, " '' --attach-timeout 0 --target grpc:127.0.0.1:1"));
    EXPECT_EQ(outcome.exit_code, 2) << flag;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(flag), HasSubstr("is empty")));
  }
  EXPECT_EQ(Bench("--metrics-listen '' --target " + Embedded()).exit_code, 2);
}

TEST_F(FlagsTest, AnAttachTimeoutIsATimeThatSomebodyWaits) {
  for (const std::string wrong : {"99999999999999h", "25h", "86401", "inf", "-1s"}) {
    const Outcome outcome =
        Bench(absl::StrCat("--attach-timeout ", wrong, " --target grpc:127.0.0.1:1"));
    EXPECT_EQ(outcome.exit_code, 2) << wrong;
    EXPECT_THAT(outcome.err, HasSubstr("--attach-timeout"));
  }
  EXPECT_EQ(Bench("--attach-timeout 24h --target " + Embedded()).exit_code, 0);
}

// Every flag of a client that names where an engramd is and who asks.
TEST_F(FlagsTest, WhatIsNotGivenIsReadFromTheEnvironment) {
  EngramdProcess engramd({"--table-set", Path("v41"), "--listen", "unix:" + Path("g"),
                          "--shm-socket", Path("m"), "--admin-grpc-listen", "unix:" + Path("a")});
  engramd.WaitUntilServing();
  const std::string rest = " lookup --output - --token-ids " + Path("ids");
  const auto run = [](const std::string& line) { return RunShell(line).exit_code; };
  for (const std::string& target :
       {"grpc:unix:" + Path("g"), Path("g"), Path("m"), "unix:" + Path("m"), Embedded()}) {
    EXPECT_EQ(run("ENGRAM_TARGET=" + target + " $ENGRAM" + rest), 0) << target;
  }
  EXPECT_EQ(run("ENGRAM_ADMIN=" + Path("a") + " $ENGRAM admin list"), 0);
  EXPECT_EQ(run("ENGRAM_ADMIN= $ENGRAM admin list"), 2);
  for (const std::string action : {"list", "scrub"}) {
    EXPECT_EQ(run("ENGRAM_ADMIN=/nowhere $ENGRAM admin " + action + " --admin " + Path("a")), 0);
  }
  // The flag wins.
  EXPECT_EQ(run("ENGRAM_TARGET=nonsense $ENGRAM" + rest + " --target " + Path("g")), 0);
  const Outcome wrong = RunShell("ENGRAM_TARGET=nonsense $ENGRAM" + rest);
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("ENGRAM_TARGET"));
  // Credentials that cannot be read are looked at where they are of use, and nowhere else.
  const std::string ca = "ENGRAM_TLS_CA=" + Path("no-ca") + " ENGRAM_TOKEN_FILE=" + Path("none");
  EXPECT_EQ(run(ca + " $ENGRAM" + rest + " --target " + Embedded()), 0);
  EXPECT_EQ(run(ca + " $ENGRAM" + rest + " --target " + Path("m")), 0);
  const Outcome missing = RunShell(ca + " $ENGRAM" + rest + " --target " + Path("g"));
  EXPECT_NE(missing.exit_code, 0);
  EXPECT_THAT(missing.err, AnyOf(HasSubstr("no-ca"), HasSubstr(Path("none"))));
}

// Nobody waits ten minutes for an engramd to hear of a slip.
TEST_F(FlagsTest, TokenIdsAreLookedAtBeforeAnEngramdIsWaitedFor) {
  const Outcome outcome = RunShell(
      absl::StrCat("$ENGRAM lookup --target grpc:127.0.0.1:1 --attach-timeout 10m --output ",
                   Path("out"), " --token-ids ", Path("none")));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr(Path("none")));
}

TEST_F(FlagsTest, AnUnreachablePlaceSaysWhyAndAUrlWhatToWrite) {
  const auto bench = [&](const std::string& target) {
    return Bench("--attach-timeout 300ms --target " + target);
  };
  // Nobody listens at port 1 of this machine.
  const Outcome refused = bench("127.0.0.1:1");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("Connection refused"));
  const Outcome nothing = bench("grpc:unix:" + Path("nothing"));
  EXPECT_EQ(nothing.exit_code, 1);
  EXPECT_THAT(nothing.err, HasSubstr("No such file or directory"));
  const Outcome url = bench("http://127.0.0.1:7300");
  EXPECT_EQ(url.exit_code, 2);
  EXPECT_THAT(url.err, HasSubstr("did you mean grpc:127.0.0.1:7300?"));
  const Outcome path = bench(Path("nothing"));
  EXPECT_EQ(path.exit_code, 2);
  EXPECT_THAT(path.err, AllOf(HasSubstr("shm:" + Path("nothing")), HasSubstr("grpc:unix:")));
  const Outcome admin = RunShell("$ENGRAM admin list --admin http://127.0.0.1:7302");
  EXPECT_EQ(admin.exit_code, 2);
  EXPECT_THAT(admin.err, HasSubstr("did you mean 127.0.0.1:7302?"));
}

}  // namespace
}  // namespace engram::integration
