// Between the signal and the drain: whoever asks is told that it stops, whoever looks rows up is
// served.
#include <csignal>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(LameDuck, ServesOnThoughItSaysThatItStops) {
  ScratchDirectory scratch;
  PackSmallSet("qwen4-exp", 500, scratch / "set");
  EngramdProcess engramd({"--table-set", scratch / "set", "--listen", "127.0.0.1:0",
                          "--admin-listen", "127.0.0.1:0", "--lame-duck-s", "86400"});
  const std::string address = engramd.WaitUntilServing();
  const auto page_line = engramd.WaitForLine("status at http://");
  ASSERT_TRUE(page_line);
  const std::string pages = page_line->substr(page_line->find("http://") + 7);
  engramd.Signal(SIGTERM);
  ASSERT_TRUE(engramd.WaitForLine("sockets close in 86400 s"));
  // The line is written before: a page may be asked for before the state has changed.
  std::string ready = HttpGet(pages, "/readyz");
  for (int i = 0; i < 100 && ready.find("503") == std::string::npos; ++i) {
    ready = HttpGet(pages, "/readyz");
  }
  EXPECT_THAT(ready, AllOf(HasSubstr("503"), HasSubstr("DRAINING")));
  // Who did not look there yet connects, and is served.
  const auto client = Client::Attach("grpc:" + address, {});
  ASSERT_TRUE(client.ok()) << client.status();
  const auto rows = LookUp(**client, RealTokenIds(20), RealClock().Now() + absl::Seconds(20));
  EXPECT_TRUE(rows.ok()) << rows.status();
  // A second signal ends it at once.
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), -SIGTERM);
}

}  // namespace
}  // namespace engram::integration
