// What a program says of itself beside its flags: for help and the manual page.
// A value.
#pragma once

#include <string>
#include <vector>

namespace engram {

struct ProgramTexts {
  struct Entry {
    std::string name, text;
  };
  std::string version;
  std::string section;                  // of the manual: "1", "8"
  std::vector<Entry> exit_codes = {};   // "0": "done"
  std::vector<Entry> environment = {};  // a variable, and what it holds
  std::vector<Entry> examples = {};  // command lines, and what they do; for the manual page alone
  std::vector<std::string> see_also = {};  // "engramd(8)"; for the manual page alone
};

}  // namespace engram
