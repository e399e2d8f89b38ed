#include "server/config/config_layers.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <CLI/CLI.hpp>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/addressing/families.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/base/text_format.h"
#include "memstore/os/posix_file.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/help_format.h"
#include "memstore/program/parse_error.h"
#include "proto/wire/version.h"
#include "server/base/limits.h"
#include "server/config/config_fields.h"

namespace engram {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

const FieldDescriptor* Find(absl::string_view field) {
  return v1::ServerConfig::descriptor()->FindFieldByName(std::string(field));
}

absl::Status NotANumber(absl::string_view where, absl::string_view text, uint64_t most) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, " ", QuoteForMessage(text), " is not a whole number from 0 to ", most));
}

// Sets or adds one value that was given as text.
absl::Status SetFromText(const FieldDescriptor& field, absl::string_view where,
                         const std::string& text, v1::ServerConfig* config) {
  const Reflection& reflection = *config->GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) {
        return NotANumber(where, text, std::numeric_limits<uint32_t>::max());
      }
      if (field.is_repeated()) {
        reflection.AddUInt32(config, &field, value);
      } else {
        reflection.SetUInt32(config, &field, value);
      }
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) {
        return NotANumber(where, text, std::numeric_limits<uint64_t>::max());
      }
      reflection.SetUInt64(config, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      if (text != "true" && text != "false") {
        return absl::InvalidArgumentError(
            absl::StrCat(where, " ", QuoteForMessage(text), " is neither true nor false"));
      }
      reflection.SetBool(config, &field, text == "true");
      return absl::OkStatus();
    }
    default:
      if (field.is_repeated()) {
        reflection.AddString(config, &field, text);
      } else {
        reflection.SetString(config, &field, text);
      }
      return absl::OkStatus();
  }
}

// Takes what comes before the last `part` of it away as well; false where it has none.
bool ConsumeThrough(absl::string_view part, absl::string_view& text) {
  const size_t at = text.rfind(part);
  if (at == absl::string_view::npos || (at > 0 && text[at - 1] != '_')) return false;
  text.remove_prefix(at + part.size());
  return true;
}

// In a pod these come from Services whose names begin with engramd ("engramd", "engramd-admin"),
// not from whoever configures it: [NAME_]SERVICE_HOST, [NAME_]SERVICE_PORT[_PORTNAME],
// [NAME_]PORT=tcp://..., [NAME_]PORT_N_TCP[_PROTO|_PORT|_ADDR].
bool IsServiceLink(absl::string_view variable, absl::string_view value) {
  absl::string_view rest = absl::StripPrefix(variable, kEnvironmentPrefix);
  absl::string_view host = rest, service_port = rest, port = rest;
  if (ConsumeThrough("SERVICE_HOST", host) && host.empty()) return true;
  if (ConsumeThrough("SERVICE_PORT", service_port) &&
      (service_port.empty() || service_port.front() == '_')) {
    return true;
  }
  for (const absl::string_view end : {"_PROTO", "_PORT", "_ADDR"}) {
    if (absl::ConsumeSuffix(&port, end)) break;
  }
  for (const absl::string_view protocol : {"_TCP", "_UDP", "_SCTP"}) {
    absl::string_view number = port;
    uint32_t of_port = 0;
    if (absl::ConsumeSuffix(&number, protocol) && ConsumeThrough("PORT_", number) &&
        absl::SimpleAtoi(number, &of_port)) {
      return true;
    }
  }
  return ConsumeThrough("PORT", rest) && rest.empty() && absl::StrContains(value, "://");
}

// Of a field's flag in the help.
std::string HeadingOf(absl::string_view field) {
  constexpr std::pair<absl::string_view, const char*> kHeadings[] = {
      {"table_set", "Tables"},    {"checkpoint", "Tables"},  {"family", "Tables"},
      {"rows_per", "Tables"},     {"token_map", "Tables"},   {"state_dir", "Tables"},
      {"numa", "Tables"},         {"memory_", "Tables"},     {"load_", "Tables"},
      {"scrub_", "Tables"},       {"shm_", "Shared memory"}, {"rdma_", "RDMA"},
      {"admin_", "Operators"},    {"log_", "Log"},           {"tls_", "Security"},
      {"token_file", "Security"}, {"allow", "Security"},     {"unix_allow", "Security"}};
  for (const auto& [begin, heading] : kHeadings) {
    if (absl::StartsWith(field, begin)) return heading;
  }
  return "Serving";
}

std::string ValuesOf(const ConfigField& field) {
  if (absl::string_view(field.name) != "family") return field.values;
  return absl::StrReplaceAll(FamilyNames(), {{", ", ","}});
}

ProgramTexts Texts() {
  return {.version = kEngramVersion,
          .section = "8",
          .exit_codes = {{"0", "stopped by a signal"}, {"1", "it failed"}, {"2", "bad usage"}},
          .environment = {{"ENGRAMD_...",
                           "what a flag says that takes a value, by its name in capitals with _ "
                           "for -: ENGRAMD_LISTEN is --listen; an empty one says nothing"},
                          {"TMPDIR", "where links to a checkpoint lie without --state-dir"}},
          .examples = {{"engramd --table-set /tables/v41 --listen 127.0.0.1:7300",
                        "Serve a table set to clients of this machine:"},
                       {"engramd --checkpoint MODEL --family deepseek-v4.1-flash --listen "
                        "127.0.0.1:7300",
                        "Serve a downloaded model as it lies:"},
                       {"engramd --config /etc/engram/engramd.textproto --check-config",
                        "Look at all that a configuration names, and end:"}},
          .see_also = {"engram(1)", "/usr/share/doc/engram/RUNBOOK.md",
                       "/usr/share/doc/engram/DEPLOY.md"}};
}

}  // namespace

std::string FlagName(absl::string_view field) {
  return absl::StrCat("--", absl::StrReplaceAll(field, {{"_", "-"}}));
}

std::string VariableName(absl::string_view field) {
  return absl::StrCat(kEnvironmentPrefix, absl::AsciiStrToUpper(field));
}

absl::StatusOr<ConfigLayers> ConfigLayers::Read(int argc, const char* const* argv,
                                                absl::Span<const char* const> environment) {
  ConfigLayers layers;
  // From the strongest to the weakest: each sets what the ones before left open.
  ENGRAM_RETURN_IF_ERROR(layers.ReadFlags(argc, argv));
  if (layers.action_ == Action::kText) return layers;
  layers.ReadEnvironment(environment);
  if (absl::Status status = layers.ReadFile(); !status.ok()) {
    layers.faults_.push_back(std::move(status));
    layers.is_whole_ = false;
  }
  if (!layers.faults_.empty() && layers.action_ != Action::kCheck) return layers.faults_.front();
  return layers;
}

absl::Status ConfigLayers::ReadFlags(int argc, const char* const* argv) {
  CLI::App app{
      "engramd: serves Engram table sets from memory.\n"
      "Each flag that takes a value is also a variable (--load-threads: ENGRAMD_LOAD_THREADS, "
      "repeated ones with commas) and a field of --config (load_threads); flags are the "
      "strongest, then variables.",
      "engramd"};
  UseProgramTexts(app, Texts());
  app.add_option("--config", file_, "configuration file, textproto")->type_name("FILE");
  bool print = false;
  bool check = false;
  app.add_flag("--print-config", print, "print what it would serve by, and why, and end");
  app.add_flag(
      "--check-config", check,
      "check the configuration, the files and table sets it names and the folders of its sockets, "
      "and end");
  std::map<std::string, std::vector<std::string>> given;
  for (const ConfigField& field : ConfigFields()) {
    std::vector<std::string>& values = given[field.name];
    if (*field.type == '\0') {
      app.add_flag_callback(
             FlagName(field.name), [&values] { values = {"true"}; }, field.help)
          ->group(HeadingOf(field.name));
      continue;
    }
    CLI::Option* const option = app.add_option(FlagName(field.name), values, field.help)
                                    ->type_name(field.type)
                                    ->group(HeadingOf(field.name))
                                    ->allow_extra_args(false);
    if (!Find(field.name)->is_repeated()) option->expected(1);
    if (const std::string values = ValuesOf(field); !values.empty()) {
      option->check(Suggest(absl::StrSplit(values, ',')));
    }
  }
  try {
    app.parse(argc, const_cast<char**>(argv));
  } catch (const CLI::CallForVersion& version) {
    action_ = Action::kText;
    text_ = absl::StrCat(version.what(), "\n");
    return absl::OkStatus();
  } catch (const CLI::CallForHelp&) {
    action_ = Action::kText;
    text_ = app.help();
    return absl::OkStatus();
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(ExplainParseError(app, error));
  }
  if (print || check) action_ = print ? Action::kPrint : Action::kCheck;
  for (const auto& [field, values] : given) {
    if (values.empty()) continue;
    const FieldDescriptor* const descriptor = Find(field);
    if (!descriptor->is_repeated() && values.size() > 1) {
      faults_.push_back(
          absl::InvalidArgumentError(absl::StrCat(FlagName(field), " is given twice")));
    }
    TakeValues(*descriptor, FlagName(field), values);
    origins_[field].kind = Kind::kFlag;
  }
  return absl::OkStatus();
}

// A value that is none of the field's is left out.
void ConfigLayers::TakeValues(const FieldDescriptor& field, absl::string_view where,
                              const std::vector<std::string>& values) {
  for (const std::string& value : values) {
    absl::Status status = SetFromText(field, where, value, &config_);
    if (!status.ok()) faults_.push_back(std::move(status));
  }
}

void ConfigLayers::ReadEnvironment(absl::Span<const char* const> environment) {
  for (const absl::string_view entry : environment) {
    if (!absl::StartsWith(entry, kEnvironmentPrefix)) continue;
    const std::pair<std::string, std::string> variable =
        absl::StrSplit(entry, absl::MaxSplits('=', 1));
    if (IsServiceLink(variable.first, variable.second)) continue;
    const std::string field = absl::AsciiStrToLower(
        absl::StripPrefix(variable.first, absl::string_view(kEnvironmentPrefix)));
    if (field == "config") {
      if (file_.empty()) file_ = variable.second;
      continue;
    }
    const FieldDescriptor* const descriptor = Find(field);
    if (descriptor == nullptr) {
      faults_.push_back(absl::InvalidArgumentError(
          absl::StrCat(QuoteForMessage(variable.first),
                       " is set in the environment, and engramd has no such setting: unset it "
                       "(engramd --help lists what there is)")));
      continue;
    }
    // As what starts it writes one where there is nothing: it must not take a token file away.
    if (origins_.contains(field) || variable.second.empty()) continue;
    std::vector<std::string> values = {variable.second};
    if (descriptor->is_repeated()) values = absl::StrSplit(variable.second, ',');
    TakeValues(*descriptor, variable.first, values);
    origins_[field].kind = Kind::kEnvironment;
  }
}

absl::Status ConfigLayers::ReadFile() {
  if (file_.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> text = ReadWholeFile(file_, kMaxConfigBytes);
  if (!text.ok()) {
    return absl::Status(text.status().code(), absl::StrCat("--config: ", text.status().message()));
  }
  v1::ServerConfig read;
  google::protobuf::TextFormat::ParseInfoTree places;
  if (absl::Status status = ParseTextFormat(*text, &read, &places); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        file_, ":", status.message(), " (engramd --help lists the fields there are, as flags)"));
  }
  const Reflection& reflection = *read.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(read, &fields);
  for (const FieldDescriptor* field : fields) {
    if (origins_.contains(field->name())) {
      reflection.ClearField(&read, field);
      continue;
    }
    Origin& origin = origins_[field->name()];
    origin.kind = Kind::kFile;
    const int values = field->is_repeated() ? reflection.FieldSize(read, field) : 1;
    for (int i = 0; i < values; ++i) {
      const int line = places.GetLocation(field, field->is_repeated() ? i : -1).line + 1;
      // Of a list in brackets protobuf keeps the first value's place alone.
      origin.lines.push_back(line > 0 || i == 0 ? line : origin.lines.back());
    }
  }
  config_.MergeFrom(read);
  return absl::OkStatus();
}

std::string ConfigLayers::Where(absl::string_view field, int index) const {
  const auto origin = origins_.find(field);
  if (origin == origins_.end() || origin->second.kind == Kind::kFlag) return FlagName(field);
  if (origin->second.kind == Kind::kEnvironment) return VariableName(field);
  return absl::StrCat(file_, ":", origin->second.lines[index], ": ", field);
}

std::string ConfigLayers::Source(absl::string_view field, int index) const {
  const auto origin = origins_.find(field);
  if (origin == origins_.end()) return "default";
  if (origin->second.kind == Kind::kFlag) return absl::StrCat("flag ", FlagName(field));
  if (origin->second.kind == Kind::kEnvironment) {
    return absl::StrCat("environment ", VariableName(field));
  }
  return absl::StrCat(file_, ":", origin->second.lines[index]);
}

}  // namespace engram
