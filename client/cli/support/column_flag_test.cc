#include "client/cli/support/column_flag.h"

#include <optional>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ColumnFlagTest, RunsAndSingleColumns) {
  EXPECT_THAT(ParseColumnRuns("0..1,8..9,16").value(),
              ElementsAre(ColumnRun{0, 2}, ColumnRun{8, 2}, ColumnRun{16, 1}));
  EXPECT_THAT(ParseColumnRuns("23").value(), ElementsAre(ColumnRun{23, 1}));
  EXPECT_THAT(ParseColumnRuns("").value(), IsEmpty());
}

TEST(ColumnFlagTest, NamesThePartThatIsNone) {
  for (const std::string part : {"x", "1..", "..1", "3..1", "-1", "1..2..3", " ", "4294967296",
                                 "0..4294967295", "1.2", "all"}) {
    const auto runs = ParseColumnRuns("0..1," + part);
    EXPECT_EQ(runs.status().code(), absl::StatusCode::kInvalidArgument) << part;
    EXPECT_THAT(std::string(runs.status().message()), HasSubstr("\"" + part + "\""));
  }
  const auto message = [](const std::string& text) {
    return std::string(ParseColumnRuns(text).status().message());
  };
  for (const std::string beyond : {"4294967296", "0..4294967295", "99999999999999999999..0"}) {
    EXPECT_THAT(message(beyond), HasSubstr("beyond the columns of any layer: give columns below"));
  }
  EXPECT_THAT(message("3..1"), HasSubstr("ends before it begins: give FIRST..LAST"));
  EXPECT_THAT(message("x"), HasSubstr("is no run of columns: give FIRST..LAST, or one column"));
  EXPECT_FALSE(ParseColumnRuns("1,").ok());
  EXPECT_FALSE(ParseColumnRuns(",1").ok());
}

TEST(ColumnFlagTest, ASliceIsAllOfALayerOrWhatIsNamed) {
  EXPECT_TRUE(SliceOfFlag(std::nullopt, 24)->is_all());
  EXPECT_EQ(SliceOfFlag("0..1,8..9", 24)->columns(), 4u);
  for (const auto& [text, what] : {std::pair{"0..24", "beyond the layer's 24 columns"},
                                   {"x", "\"x\" is no run"},
                                   {"", "no columns are named: give FIRST..LAST"}}) {
    const absl::Status status = SliceOfFlag(text, 24).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("--columns: "), HasSubstr(what)));
  }
}

}  // namespace
}  // namespace engram::cli
