#include "memstore/base/python_numbers.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(QuotePythonNumbersTest, QuotesWhatIsNoNumberOfJson) {
  EXPECT_EQ(QuotePythonNumbers(R"({"a": NaN, "b":[Infinity,-Infinity], "c": 1e400,"d":-1E+999})"),
            R"({"a": "NaN", "b":["Infinity","-Infinity"], "c": "1e400","d":"-1E+999"})");
  const std::string digits(400, '9');
  EXPECT_EQ(QuotePythonNumbers(digits), absl::StrCat("\"", digits, "\""));
  EXPECT_EQ(QuotePythonNumbers("NaN"), "\"NaN\"");
}

TEST(QuotePythonNumbersTest, LeavesAllElse) {
  for (const char* text : {R"({"NaN": "Infinity", "x": "a \" NaN", "y": "\\", "z": -1.5e3})",
                           "1e-400", "nan", "-NaN", "inf", "NaNs", "", R"("open NaN)", R"("open \)",
                           "[1,2.5,true,null]", "18446744073709551616", "1e400x"}) {
    EXPECT_EQ(QuotePythonNumbers(text), text);
  }
}

}  // namespace
}  // namespace engram
