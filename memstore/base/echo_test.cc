#include "memstore/base/echo.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(EchoTest, ShowsWhatIsPrintableAsItIs) {
  EXPECT_EQ(Echo(""), "");
  EXPECT_EQ(Echo("{\"a\": [1, 'b']} ~"), "{\"a\": [1, 'b']} ~");
}

TEST(EchoTest, EscapesWhatATerminalWouldObeyOrJsonRefuse) {
  EXPECT_EQ(Echo("a\x1b[31mb\n"), "a\\x1b[31mb\\n");
  EXPECT_EQ(Echo(absl::string_view("\0\xff\x7f", 3)), "\\x00\\xff\\x7f");
  EXPECT_EQ(Echo("\\n"), "\\\\n");  // and nothing reads like an escape that was none
}

TEST(EchoTest, CutsWhatIsLong) {
  EXPECT_EQ(Echo(std::string(kMaxEchoBytes, 'x')), std::string(kMaxEchoBytes, 'x'));
  EXPECT_EQ(Echo(std::string(1'000'000, 'x')),
            std::string(kMaxEchoBytes, 'x') + "... (1000000 bytes)");
}

}  // namespace
}  // namespace engram
