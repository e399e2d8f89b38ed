#include "server/base/log.h"

#include <spdlog/common.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// By this line number in its place an event is known from a place in the source: spdlog has no room
// of its own for fields. Its "file" is the fields, and its "function" the event.
constexpr int kEventMark = -1;

std::string Dump(const nlohmann::json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

void Append(absl::string_view text, spdlog::memory_buf_t& to) {
  to.append(text.data(), text.data() + text.size());
}

// Of lines that were logged without one, so that every line has an event.
constexpr char kPlainEvent[] = "message";

// %* : the message as a JSON string, and the event and its fields; what is no UTF-8 is replaced.
class JsonMembers final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& to) override {
    Append(Dump(std::string(message.payload.data(), message.payload.size())), to);
    const bool is_event = message.source.line == kEventMark;
    Append(absl::StrCat(",\"event\":", Dump(is_event ? message.source.funcname : kPlainEvent)), to);
    if (is_event) Append(message.source.filename, to);
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMembers>();
  }
};

// %* : the message in one line, whatever a name in it holds.
class OneLine final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& to) override {
    const absl::string_view text(message.payload.data(), message.payload.size());
    for (const char& c : text) {
      const bool plain = static_cast<unsigned char>(c) >= ' ' && c != '\x7f';
      Append(plain ? std::string(1, c) : absl::CHexEscape({&c, 1}), to);
    }
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<OneLine>();
  }
};

}  // namespace

std::shared_ptr<spdlog::logger> MakeLog(bool json, const std::string& level) {
  auto log = std::make_shared<spdlog::logger>("engramd",
                                              std::make_shared<spdlog::sinks::stderr_sink_mt>());
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  if (json) {
    formatter->add_flag<JsonMembers>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})");
  } else {
    formatter->add_flag<OneLine>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %*");
  }
  log->set_formatter(std::move(formatter));
  log->set_level(spdlog::level::from_str(level));
  log->flush_on(spdlog::level::debug);
  return log;
}

void LogEvent(spdlog::logger& log, spdlog::level::level_enum level, const char* event,
              const nlohmann::json& fields, const std::string& message) {
  if (!log.should_log(level)) return;
  std::string members;
  for (const auto& [name, value] : fields.items()) {
    absl::StrAppend(&members, ",", Dump(name), ":", Dump(value));
  }
  // Written before the call returns: no sink of ours keeps what it is given.
  log.log(spdlog::source_loc(members.c_str(), kEventMark, event), level, "{}", message);
}

}  // namespace engram
