// engramd's version, as --version, its logs and its metrics name it.
#pragma once

namespace engram {

inline constexpr char kEngramdVersion[] = "0.1.0";

}  // namespace engram
