// Programs that are started without standard streams: the numbers 0, 1 and 2 then go to what is
// opened first, unless something is there.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

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
    const auto rows = LookUp(**client, ids, absl::InfiniteFuture());
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

}  // namespace
}  // namespace engram::integration
