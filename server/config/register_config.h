// What engramd is told of registering, understood and checked.
#pragma once

#include "absl/status/status.h"
#include "server/config/config.h"
#include "server/config/config_layers.h"

namespace engram {

// Fills register_place, advertise and register_security. INVALID_ARGUMENT names the flag, the
// variable, or the file and line.
absl::Status TakeRegistration(const ConfigLayers& layers, ServerConfig* config);

}  // namespace engram
