#include "memstore/program/bash_completion.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/program/flag_text.h"

namespace engram {
namespace {

// What is collected of a program and its commands; patterns of case, whose paths are the commands
// with a blank before each.
struct Cases {
  std::vector<std::string> paths;
  std::string words;   // of each path: its commands and flags
  std::string values;  // of each path and flag: what its value may be
};

void AddValues(const std::string& path, const CLI::Option& option, std::string* values) {
  if (option.get_expected_max() == 0) return;  // a flag, which takes none
  const std::vector<std::string> choices = Choices(option);
  const std::string placeholder = Placeholder(option);
  std::string reply = "return";  // files
  if (!choices.empty()) {
    reply = absl::StrCat("COMPREPLY=($(compgen -W \"", absl::StrJoin(choices, " "),
                         "\" -- \"$word\")); return");
  } else if (placeholder == "DIR") {
    reply = "COMPREPLY=($(compgen -d -- \"$word\")); return";
  }
  for (const std::string& name : option.get_lnames()) {
    absl::StrAppend(values, "    \"", path, " --", name, "\") ", reply, " ;;\n");
  }
}

void Collect(const CLI::App& app, const std::string& path, Cases* cases) {
  std::vector<std::string> words;
  for (const CLI::App* command : Commands(app)) words.push_back(command->get_name());
  for (const CLI::Option* option : ShownFlags(app, false)) {
    for (const std::string& name : option->get_lnames()) words.push_back(absl::StrCat("--", name));
    AddValues(path, *option, &cases->values);
  }
  absl::StrAppend(&cases->words, "    \"", path, "\") words=\"", absl::StrJoin(words, " "),
                  "\" ;;\n");
  if (!path.empty()) cases->paths.push_back(absl::StrCat("\"", path, "\""));
  for (const CLI::App* command : Commands(app)) {
    Collect(*command, absl::StrCat(path, " ", command->get_name()), cases);
  }
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  const std::string& name = app.get_name();
  Cases cases;
  Collect(app, "", &cases);
  std::string path;
  if (!cases.paths.empty()) {
    path = absl::StrCat(
        "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
        "    case \"$path ${COMP_WORDS[i]}\" in\n      ",
        absl::StrJoin(cases.paths, " | "), ") path+=\" ${COMP_WORDS[i]}\" ;;\n    esac\n  done\n");
  }
  return absl::StrCat(
      "# Completion of ", name, " in bash, made from its flags by `", name,
      " --bash-completion`.\n_", name,
      "() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} path= "
      "words= i\n  COMPREPLY=()\n",
      path, "  case \"$path $before\" in\n", cases.values, "  esac\n  case \"$path\" in\n",
      cases.words,
      "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _",
      name, " ", name);
}

}  // namespace engram
