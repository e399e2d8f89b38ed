#include "memstore/program/flag_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// Of choices that take more, the list stands in the text alone.
constexpr size_t kMaxPlaceholder = 40;
constexpr char kCommonGroup[] = "Options";

constexpr absl::string_view kSuggested = ":suggested {";

// CLI11 gives the type and what each check says of itself, with colons between them:
// "UINT:UINT in [1 - 16]", "TEXT:{a,b}", "TEXT:suggested {a,b}", "TEXT:FILE", "HOST:PORT".
struct Type {
  std::string name;
  std::string range;                   // "1 to 16"
  std::vector<std::string> choices;    // others are refused
  std::vector<std::string> suggested;  // others are not
};

// What stands between `begin` and the next brace is taken out of `text`, with all behind it.
std::vector<std::string> TakeList(absl::string_view begin, std::string* text) {
  const size_t at = absl::string_view(*text).find(begin);
  if (at == absl::string_view::npos) return {};
  const size_t first = at + begin.size();
  std::vector<std::string> list =
      absl::StrSplit(text->substr(first, text->find('}', first) - first), ',');
  text->resize(at);
  return list;
}

Type TypeOf(const CLI::Option& option) {
  Type type;
  std::string text = option.get_type_name();
  type.suggested = TakeList(kSuggested, &text);
  type.choices = TakeList(":{", &text);
  if (const size_t in = text.find(" in ["); in != std::string::npos) {
    const size_t end = std::min(text.find(']', in), text.size());
    type.range = absl::StrReplaceAll(text.substr(in + 5, end - in - 5), {{" - ", " to "}});
    const size_t colon = text.rfind(':', in);
    text.resize(colon == std::string::npos ? 0 : colon);
  }
  if (absl::StartsWith(text, "TEXT:")) text = text.substr(text.find(':') + 1);
  if (text == "TEXT") text = "VALUE";
  if (text == "UINT" || text == "INT" || text == "FLOAT") text = "N";
  type.name = std::move(text);
  return type;
}

bool TakesSeveral(const CLI::Option& option) {
  return option.get_delimiter() != '\0' &&
         option.get_expected_max() >= CLI::detail::expected_max_vector_size;
}

}  // namespace

std::string Placeholder(const CLI::Option& option) {
  if (option.get_type_size() == 0) return "";
  const Type type = TypeOf(option);
  std::string text = type.name;
  const std::string choices = absl::StrJoin(type.choices, "|");
  if (text == "VALUE" && !choices.empty() && choices.size() <= kMaxPlaceholder) text = choices;
  if (TakesSeveral(option) && !absl::EndsWith(text, "...")) absl::StrAppend(&text, ",...");
  return text;
}

CLI::Validator Suggest(const std::vector<std::string>& values) {
  return CLI::Validator(
      [](std::string&) { return std::string(); },
      absl::StrCat(absl::StripPrefix(kSuggested, ":"), absl::StrJoin(values, ","), "}"));
}

std::vector<std::string> Choices(const CLI::Option& option) {
  const Type type = TypeOf(option);
  return type.choices.empty() ? type.suggested : type.choices;
}

std::string FlagText(const CLI::Option& option) {
  std::string text = option.get_description();
  const Type type = TypeOf(option);
  const auto add = [&](absl::string_view note) {
    absl::StrAppend(&text, text.empty() ? "" : " ", "[", note, "]");
  };
  if (!type.range.empty() && !absl::StrContains(text, type.range)) add(type.range);
  if (const std::string choices = absl::StrJoin(type.choices, ", ");
      absl::StrJoin(type.choices, "|").size() > kMaxPlaceholder) {
    add(absl::StrCat("one of ", choices));
  }
  if (option.get_required()) add("required");
  for (const CLI::Option* other : option.get_excludes()) {
    add(absl::StrCat("not with ", FlagName(*other)));
  }
  return text;
}

std::string FlagName(const CLI::Option& option) {
  if (option.nonpositional()) return option.get_name(false, false);
  return absl::AsciiStrToUpper(option.get_name(true, false));
}

std::string FlagNames(const CLI::Option& option) {
  return option.nonpositional() ? option.get_name(false, true) : FlagName(option);
}

std::vector<const CLI::Option*> ShownFlags(const CLI::App& app, bool positional) {
  return app.get_options([positional](const CLI::Option* option) {
    return !option->get_group().empty() && option->get_positional() == positional;
  });
}

std::vector<std::string> FlagGroups(const CLI::App& app) {
  std::vector<std::string> groups;
  for (const CLI::Option* option : ShownFlags(app, false)) {
    const std::string group = option->get_group();
    if (group != kCommonGroup && std::find(groups.begin(), groups.end(), group) == groups.end()) {
      groups.push_back(group);
    }
  }
  groups.emplace_back(kCommonGroup);
  return groups;
}

std::vector<const CLI::App*> Commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_name().empty(); });
}

std::string UsageOf(const CLI::App& app, absl::string_view name) {
  std::string usage = absl::StrCat(name, " [OPTIONS]");
  for (const CLI::Option* argument : ShownFlags(app, true)) {
    const std::string shown = FlagName(*argument);
    absl::StrAppend(&usage, argument->get_required() ? absl::StrCat(" ", shown)
                                                     : absl::StrCat(" [", shown, "]"));
  }
  if (!Commands(app).empty()) absl::StrAppend(&usage, " COMMAND");
  return usage;
}

std::string Summary(const CLI::App& app) {
  std::string text = absl::StrReplaceAll(app.get_description(), {{"\n", " "}});
  if (const size_t end = text.find(". "); end != std::string::npos) text.resize(end);
  while (!text.empty() && (text.back() == '.' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace engram
