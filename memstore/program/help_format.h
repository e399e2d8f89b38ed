// Help as every program here prints it: flags in groups, in lines of at most kHelpColumns.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "memstore/program/program_texts.h"

namespace engram {

inline constexpr size_t kHelpColumns = 100;

// `text` in lines of at most kHelpColumns, of which all but the first begin with `indent` blanks;
// the first begins at `column`. Its own line ends stay, and its own lines' indentation. A longer
// word has a line of its own.
std::string Wrapped(absl::string_view text, size_t column, size_t indent);

// For CLI::App::formatter, before commands are added, which inherit it. Immutable.
class HelpFormat final : public CLI::FormatterBase {
 public:
  explicit HelpFormat(ProgramTexts texts) : texts_(std::move(texts)) {}
  // Variables and exit codes are in the program's own help, not in its commands'.
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;

 private:
  const ProgramTexts texts_;
};

// Gives the program HelpFormat and, beside --version, --man-page and --bash-completion, which help
// does not show: each prints its text in the place of a run, as --version does. `app` has a name
// and outlives the parse.
void UseProgramTexts(CLI::App& app, const ProgramTexts& texts);

}  // namespace engram
