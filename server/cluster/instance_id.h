// The name of one run of the process: another one after each start, so that who hears it knows that
// what it knew of the one before is gone. Stateless, thread-safe.
#pragma once

#include <string>

namespace engram {

// 128 random bits, 32 lower-case hexadecimal digits. Nobody is kept out by not knowing it.
std::string NewInstanceId();

}  // namespace engram
