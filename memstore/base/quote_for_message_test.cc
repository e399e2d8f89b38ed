#include "memstore/base/quote_for_message.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(EchoTest, ShowsWhatIsPrintableAsItIs) {
  EXPECT_EQ(QuoteForMessage(""), "");
  EXPECT_EQ(QuoteForMessage("{\"a\": [1, 'b']} ~"), "{\"a\": [1, 'b']} ~");
}

TEST(EchoTest, EscapesWhatATerminalWouldObeyOrJsonRefuse) {
  EXPECT_EQ(QuoteForMessage("a\x1b[31mb\n"), "a\\x1b[31mb\\n");
  EXPECT_EQ(QuoteForMessage(absl::string_view("\0\xff\x7f", 3)), "\\x00\\xff\\x7f");
  EXPECT_EQ(QuoteForMessage("\\n"), "\\\\n");  // and nothing reads like an escape that was none
}

TEST(EchoTest, CutsWhatIsLong) {
  EXPECT_EQ(QuoteForMessage(std::string(kMaxQuotedBytes, 'x')), std::string(kMaxQuotedBytes, 'x'));
  EXPECT_EQ(QuoteForMessage(std::string(1'000'000, 'x')),
            std::string(kMaxQuotedBytes, 'x') + "... (1000000 bytes)");
}

TEST(EchoTest, ShowsAPathWhole) {
  const std::string longest(kMaxQuotedPathBytes, 'x');
  EXPECT_EQ(QuotePathForMessage(longest), longest);
  EXPECT_EQ(QuotePathForMessage(longest + "y"), longest + "... (4097 bytes)");
  EXPECT_EQ(QuotePathForMessage("/a\x1b/\"b\""), "/a\\x1b/\"b\"");
}

}  // namespace
}  // namespace engram
