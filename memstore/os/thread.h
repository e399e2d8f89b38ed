// Starting threads with their failures as statuses.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"

namespace engram {

// A thread that runs `body`, named `name` (the kernel keeps 15 characters); the caller joins it.
// RESOURCE_EXHAUSTED when the system gives no more threads or memory.
absl::StatusOr<std::thread> StartThread(const std::string& name, std::function<void()> body);

}  // namespace engram
