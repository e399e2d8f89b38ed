// The name of one run of engramd, which no other run has.
#pragma once

#include <string>

namespace engram {

// 32 hexadecimal digits, of the kernel's random numbers. Thread-safe.
std::string MakeInstanceId();

}  // namespace engram
