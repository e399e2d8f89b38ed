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

}  // namespace
}  // namespace engram::integration
