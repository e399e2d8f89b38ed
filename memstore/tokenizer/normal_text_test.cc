#include "memstore/tokenizer/normal_text.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

struct Case {
  const char* text;
  const char* normal;
};

void ExpectAll(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const absl::StatusOr<std::string> normal = NormalText(c.text);
    ASSERT_TRUE(normal.ok()) << normal.status();
    EXPECT_EQ(*normal, c.normal) << '"' << c.text << '"';
  }
}

TEST(NormalTextTest, CaseIsOfEachCodePoint) {
  ExpectAll({{"THE", "the"},
             {"Ωμέγα", "ωμεγα"},
             // The last sigma of a word is lower case as any other.
             {"ΟΔΟΣ", "οδοσ"},
             {"ς", "ς"},
             // A capital with a dot loses the dot, and nothing is special to Turkish.
             {"İI", "ii"},
             // What would be two letters in upper case is one.
             {"ß", "ß"},
             {"ẞ", "ß"},
             {"𐐀", "𐐨"}});
}

TEST(NormalTextTest, AccentsAndFormsAreNoDifference) {
  ExpectAll({{"é", "e"},
             {"e\u0301", "e"},
             {"ﬁ", "fi"},
             {"Ａ①", "a1"},
             {"ｶﾞ", "カ"},
             // Spacing and enclosing marks are marks as well.
             {"कि", "क"},
             {"a\u20DD", "a"},
             // Hangul syllables come apart, and are not put together again.
             {"한", "\u1112\u1161\u11AB"},
             {"\u0301", ""}});
}

TEST(NormalTextTest, BlanksAreOneSpaceAndGoAtTheEnds) {
  ExpectAll({{" a \t\r\n b\n", "a b"},
             // White space of other kinds is stripped, not joined.
             {"\u2028a\u2028\u2028b\u0085", "a\u2028\u2028b"},
             // Compatible with a space: a space.
             {"a\u00A0\u3000b", "a b"},
             {"a\u200Bb\u200B", "a\u200Bb\u200B"},
             // A mark between blanks does not part them.
             {"a \u0301 b", "a b"},
             {"\u2028", ""},
             {"", ""}});
}

TEST(NormalTextTest, ATextThatIsOneSpaceStaysOne) {
  ExpectAll({{" ", " "},
             {"\n\n", " "},
             {"\u00A0", " "},
             {" \u0301", " "},
             {" \u2028 ", ""},
             // Its stand-in, where the text has it, becomes one too.
             {"\uE000", " "},
             {"a\uE000b", "a b"}});
}

}  // namespace
}  // namespace engram
