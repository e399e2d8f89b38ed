#include "server/metrics/admin_refusals.h"

#include <spdlog/sinks/ostream_sink.h>

#include <sstream>
#include <string>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

TEST(AdminRefusals, AreCountedByMethodAndCodeAndLinesAreBounded) {
  std::ostringstream text;
  FakeClock clock;
  AdminRefusals refusals(std::make_shared<spdlog::logger>(
                             "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)),
                         &clock);
  const absl::Status status = absl::NotFoundError("x is not served here");
  for (int i = 0; i < 12; ++i) {
    refusals.Add(AdminMethod::kRetire, "retire_refused", "retire a\nb", "ops", status);
  }
  refusals.Add(AdminMethod::kScrub, "scrub_refused", "scrub", "ops", absl::AbortedError(""));
  EXPECT_THAT(refusals.Read(),
              ElementsAre(Pair(Pair(AdminMethod::kRetire, absl::StatusCode::kNotFound), 12u),
                          Pair(Pair(AdminMethod::kScrub, absl::StatusCode::kAborted), 1u)));
  const std::vector<std::string> lines = absl::StrSplit(text.str(), '\n', absl::SkipEmpty());
  EXPECT_THAT(lines, SizeIs(AdminRefusals::kLinesPerSecond));
  EXPECT_THAT(lines[0], AllOf(HasSubstr("did not retire a\\nb for ops"), HasSubstr("not served")));
}

}  // namespace
}  // namespace engram
