// Help as every program here prints it: flags in groups, in lines of at most kHelpColumns.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

inline constexpr size_t kHelpColumns = 100;

// `text` in lines of at most kHelpColumns, of which all but the first begin with `indent` blanks;
// the first begins at `column`. Its own line ends stay, and its own lines' indentation. A longer
// word has a line of its own.
std::string Wrapped(absl::string_view text, size_t column, size_t indent);

// For CLI::App::formatter, before commands are added, which inherit it. Immutable.
class HelpFormat final : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
};

// Gives the program HelpFormat and, beside --version, --man-page and --bash-completion, which help
// does not show: each prints its text in the place of a run, as --version does. `section`: the
// manual's, "1" or "8". `app` has a name and outlives the parse.
void UseProgramTexts(CLI::App& app, const std::string& version, const std::string& section);

}  // namespace engram
