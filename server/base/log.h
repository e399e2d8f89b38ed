// engramd's log: a line an event on standard error, as text or as JSON.
//
// Thread-safe, as spdlog's loggers are. JSON has one object a line: time, level, message, and what
// else the event has under names of its own.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

// `level`: debug, info, warn or error.
std::shared_ptr<spdlog::logger> MakeLog(bool json, const std::string& level);

}  // namespace engram
