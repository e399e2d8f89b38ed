#include "memstore/program/bash_completion.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "memstore/program/flag_text.h"

namespace engram {
namespace {

// What is collected of a program and its commands; patterns of case, whose paths are the commands
// with a blank before each.
struct Cases {
  std::vector<std::string> paths;
  std::string words;      // of each path: its commands and flags
  std::string values;     // of each path and flag: what its value may be
  std::string arguments;  // of each path: what stands there without a flag
};

// What bash is told of a value: some words, of which one fits; directories; files; or nothing that
// it could know.
std::string KindOf(const CLI::Option& option) {
  if (const std::vector<std::string> choices = Choices(option); !choices.empty()) {
    return absl::StrCat("kind=values values=\"", absl::StrJoin(choices, " "), "\"");
  }
  const std::string placeholder(absl::StripSuffix(Placeholder(option), ",..."));
  if (placeholder == "DIR") return "kind=directories";
  for (const absl::string_view of_files : {"FILE", "PATH", "ADDR", "VALUE"}) {
    if (placeholder == of_files) return "kind=files";
  }
  return "kind=nothing";
}

void AddValues(const std::string& path, const CLI::Option& option, std::string* values) {
  if (option.get_expected_max() == 0) return;  // a flag, which takes none
  for (const std::string& name : option.get_lnames()) {
    absl::StrAppend(values, "    \"", path, " --", name, "\") ", KindOf(option), " ;;\n");
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
  if (const auto arguments = ShownFlags(app, true); !arguments.empty()) {
    absl::StrAppend(&cases->arguments, "    \"", path, "\") ", KindOf(*arguments.front()), " ;;\n");
  }
  if (!path.empty()) cases->paths.push_back(absl::StrCat("\"", path, "\""));
  for (const CLI::App* command : Commands(app)) {
    Collect(*command, absl::StrCat(path, " ", command->get_name()), cases);
  }
}

// Behind `help` stand the words of a command: each is a path below it that offers the commands
// there.
void CollectHelped(const CLI::App& app, const std::string& path, Cases* cases) {
  for (const CLI::App* command : Commands(app)) {
    const std::string below = absl::StrCat(path, " ", command->get_name());
    std::vector<std::string> words;
    for (const CLI::App* one : Commands(*command)) words.push_back(one->get_name());
    cases->paths.push_back(absl::StrCat("\"", below, "\""));
    if (words.empty()) {
      absl::StrAppend(&cases->arguments, "    \"", below, "\") kind=nothing ;;\n");
    } else {
      absl::StrAppend(&cases->words, "    \"", below, "\") words=\"", absl::StrJoin(words, " "),
                      "\" ;;\n");
    }
    CollectHelped(*command, below, cases);
  }
}

// bash takes --flag=VALUE and KIND:PLACE apart; what is behind the colon is a place, for which its
// own completion of files is as good as any.
constexpr char kSeparators[] = R"bash(  case $before in
    =) before=${COMP_WORDS[COMP_CWORD - 2]} ;;
    :) return ;;
  esac
  case $word in
    =) word= ;;
    :) return ;;
  esac
)bash";

// Without compopt a test may call the function.
constexpr char kReplies[] = R"bash(  case $kind in
    values) COMPREPLY=($(compgen -W "$values" -- "$word")) ;;
    directories)
      local IFS=$'\n'
      COMPREPLY=($(compgen -d -- "$word"))
      compopt -o filenames 2>/dev/null
      ;;
    nothing) compopt +o default 2>/dev/null ;;
    files) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
  esac
  # The place follows.
  if [[ ${COMPREPLY[0]-} == *: ]]; then compopt -o nospace 2>/dev/null; fi
}
)bash";

std::string Case(absl::string_view of, absl::string_view cases) {
  return cases.empty() ? "" : absl::StrCat("  case ", of, " in\n", cases, "  esac\n");
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  const std::string& name = app.get_name();
  Cases cases;
  Collect(app, "", &cases);
  for (const CLI::App* command : Commands(app)) {
    if (command->get_name() == "help") CollectHelped(app, " help", &cases);
  }
  std::string path;
  if (!cases.paths.empty()) {
    path = absl::StrCat(
        "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
        "    case \"$path ${COMP_WORDS[i]}\" in\n      ",
        absl::StrJoin(cases.paths, " | "), ") path+=\" ${COMP_WORDS[i]}\" ;;\n    esac\n  done\n");
  }
  std::string arguments;
  if (!cases.arguments.empty()) {
    arguments = absl::StrCat("  if [[ -z $kind && $word != -* ]]; then\n  ",
                             Case("\"$path\"", cases.arguments), "  fi\n");
  }
  return absl::StrCat(
      "# Completion of ", name, " in bash, made from its flags by `", name,
      " --bash-completion`.\n_", name,
      "() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} path= "
      "words= values= kind= i\n  COMPREPLY=()\n",
      path, kSeparators, Case("\"$path $before\"", cases.values), arguments,
      Case("\"$path\"", cases.words), kReplies, "complete -o default -F _", name, " ", name);
}

}  // namespace engram
