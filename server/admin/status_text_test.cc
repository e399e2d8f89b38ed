#include "server/admin/status_text.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(StatusText, CountsHaveThreeDigits) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(0.2), "0.2");
  EXPECT_EQ(CountText(17), "17");
  EXPECT_EQ(CountText(1234), "1.23 k");
  EXPECT_EQ(CountText(52'000'000), "52 M");
}

TEST(StatusText, TimesAndSpans) {
  EXPECT_EQ(TimeText(0), "–");
  EXPECT_EQ(TimeText(2.76e-6), "2.76 µs");
  EXPECT_EQ(TimeText(250e-6), "250 µs");
  EXPECT_EQ(TimeText(999.9e-6), "1 ms");
  EXPECT_EQ(TimeText(4.5e-3), "4.5 ms");
  EXPECT_EQ(TimeText(1.5), "1.5 s");
  EXPECT_EQ(SpanText(absl::Seconds(-3)), "0 seconds");
  EXPECT_EQ(SpanText(absl::Seconds(1)), "1 second");
  EXPECT_EQ(SpanText(absl::Seconds(65)), "1 minute 5 seconds");
  EXPECT_EQ(SpanText(absl::Seconds(120)), "2 minutes");
  EXPECT_EQ(SpanText(absl::Seconds(1801)), "30 minutes");
  EXPECT_EQ(SpanText(absl::Hours(1)), "1 hour");
  EXPECT_EQ(SpanText(absl::Hours(25)), "1 day 1 hour");
  EXPECT_EQ(SpanText(absl::Hours(24 * 9)), "9 days");
}

TEST(StatusText, AShareThatIsNotAllIsNotWrittenAsAll) {
  EXPECT_EQ(PercentText(0), "0 %");
  EXPECT_EQ(PercentText(0.0004), "under 0.1 %");
  EXPECT_EQ(PercentText(0.005), "0.5 %");
  EXPECT_EQ(PercentText(0.4), "40 %");
  EXPECT_EQ(PercentText(0.9999), "99.9 %");
  EXPECT_EQ(PercentText(1), "100 %");
}

TEST(StatusText, WhatOthersChoseIsEscaped) {
  EXPECT_EQ(Escape("<a href='x' b=\"&\">"), "&lt;a href=&#39;x&#39; b=&quot;&amp;&quot;&gt;");
}

TEST(StatusText, AFlagInASentenceStaysInOnePiece) {
  EXPECT_EQ(EscapeSentence("<it> lists who may: --shm-allow-uid UID (--allow) -- or --"),
            "&lt;it&gt; lists who may: <span class=\"flag\">--shm-allow-uid</span> UID "
            "(<span class=\"flag\">--allow</span>) -- or --");
  EXPECT_EQ(EscapeSentence(""), "");
  EXPECT_EQ(EscapeSentence("none"), "none");
  const std::string dashes(50, '-');
  EXPECT_EQ(EscapeSentence(dashes), dashes) << "it would be wider than the page";
}

}  // namespace
}  // namespace engram
