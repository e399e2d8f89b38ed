#include "memstore/base/message_line.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(MessageLine, LeavesWhatATerminalShows) {
  for (const char* text : {"", "no such file: /a/b\\n \"c\"", "Größe", "表 is 表", "\U0001F600"}) {
    EXPECT_EQ(MessageLine(text), text);
  }
}

TEST(MessageLine, EscapesWhatATerminalObeys) {
  EXPECT_EQ(MessageLine("a\x1b[31mb\r\nc\td\x7f"), "a\\x1b[31mb\\r\\nc\\td\\x7f");
  EXPECT_EQ(MessageLine("\xc2\x9b"
                        "31m"),
            "\\xc2\\x9b31m");  // the C1 form of the same escape
  EXPECT_EQ(MessageLine("\u202egpj.exe\u2066\u2028"),
            "\\xe2\\x80\\xaegpj.exe\\xe2\\x81\\xa6\\xe2\\x80\\xa8");
  EXPECT_EQ(MessageLine(absl::string_view("\0", 1)), "\\x00");
}

TEST(MessageLine, EscapesWhatIsNoUtf8) {
  // A byte alone, too long a form, a surrogate, beyond Unicode, and one that is cut.
  for (const auto& [text, shown] : {std::pair<const char*, const char*>{"\xff", "\\xff"},
                                    {"\xc0\xaf", "\\xc0\\xaf"},
                                    {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
                                    {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
                                    {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
                                    {"a\xe8\xa1", "a\\xe8\\xa1"}}) {
    EXPECT_EQ(MessageLine(text), shown);
  }
}

TEST(ShortenMessage, KeepsTheBeginningAndTheEnd) {
  EXPECT_EQ(ShortenMessage(std::string(30, 'x'), 30), std::string(30, 'x'));
  const std::string text = absl::StrCat("begin", std::string(1'000'000, 'x'), "end");
  EXPECT_EQ(ShortenMessage(text, 30),
            absl::StrCat("begin", std::string(15, 'x'), " ... (999978 bytes left out) ... ",
                         std::string(7, 'x'), "end"));
  EXPECT_LT(MessageLine(std::string(1'000'000, '\x1b'), 100).size(), 500u);
}

TEST(ShortenMessage, CutsNoCharacter) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "表";
  for (size_t most = 0; most < 60; ++most) {
    const std::string line = MessageLine(text, most);
    EXPECT_EQ(line.find('\\'), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace engram
