// The name of one run of the process: another one after each start, so that who hears it knows that
// what it knew of the one before is gone. Stateless, thread-safe.
#pragma once

#include <string>

namespace engram {

// 32 hexadecimal digits, of the kernel's random numbers. Thread-safe.
std::string MakeInstanceId();

}  // namespace engram
