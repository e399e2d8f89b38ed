// engramd's log: a line an event on standard error, as text or as JSON.
//
// Thread-safe, as spdlog's loggers are. A line is a line whatever a message holds: control
// characters are escaped. JSON has one object a line: time, level, message and event, and, of what
// LogEvent logs, what else the event has under names of its own. The event of all other lines is
// "message": they are for people alone.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

// `level`: debug, info, warn or error.
std::shared_ptr<spdlog::logger> MakeLog(bool json, const std::string& level);

// Logs `message`, which says all of it to people; for programs JSON has `event` ("published") and
// `fields`, an object of typed values, beside it. Names that several events share: table_set (a
// name), table_set_id, directory, bytes, seconds, peer, code (a status's, as text).
void LogEvent(spdlog::logger& log, spdlog::level::level_enum level, const char* event,
              const nlohmann::json& fields, const std::string& message);

}  // namespace engram
