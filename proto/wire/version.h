// The product's version: what both programs name, and what both ends of a connection tell each
// other for messages. Never compared: what an end can do is said by features (features.h).
#pragma once

namespace engram {

inline constexpr char kEngramVersion[] = "0.1.0";

}  // namespace engram
