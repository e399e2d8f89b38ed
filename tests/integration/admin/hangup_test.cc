// SIGHUP, by which a terminal that closes ends what it started, and service managers ask for files
// to be read again.
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

TEST(Hangup, ReadsFilesAgainAndEndsNothing) {
  ScratchDirectory scratch;
  PackSmallSet("qwen4-exp", 500, scratch / "set");
  WriteFile(scratch / "tokens", "worker 0123456789abcdefghij\n");
  EngramdProcess engramd({"--table-set", scratch / "set", "--listen", "127.0.0.1:0", "--token-file",
                          scratch / "tokens", "--admin-listen", "127.0.0.1:0"});
  engramd.WaitUntilServing();
  WriteFile(scratch / "tokens", "worker 0123456789abcdefghij\nother 9876543210abcdefghij\n");
  engramd.Signal(SIGHUP);
  ASSERT_TRUE(engramd.WaitForLine("got SIGHUP"));
  EXPECT_TRUE(engramd.WaitForLine(absl::StrCat("read ", scratch / "tokens", " again: 2 tokens")));
  WriteFile(scratch / "tokens", "worker\n");
  engramd.Signal(SIGHUP);
  EXPECT_TRUE(engramd.WaitForLine("the tokens read before stay"));
  const std::string at = engramd.WaitForLine("http://").value();
  EXPECT_EQ(MetricValue(HttpGet(at.substr(at.find("http://") + 7), "/metrics"),
                        "engram_server_token_file_refused"),
            1);
  EXPECT_TRUE(engramd.IsRunning());
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
}

}  // namespace
}  // namespace engram::integration
