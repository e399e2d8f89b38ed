// What engramd is told of its place among others, understood and checked: the part of each table
// set that it holds, its zone, and where it registers.
#pragma once

#include "absl/status/status.h"
#include "server/config/config.h"
#include "server/config/config_layers.h"

namespace engram {

// Each fills what it is named for. INVALID_ARGUMENT names the flag, the variable, or the file and
// line.
absl::Status TakePartition(const ConfigLayers& layers, ServerConfig* config);
absl::Status TakeZone(const ConfigLayers& layers, ServerConfig* config);

// Fills register_place, advertise and register_security. INVALID_ARGUMENT names the flag, the
// variable, or the file and line.
absl::Status TakeRegistration(const ConfigLayers& layers, ServerConfig* config);

}  // namespace engram
