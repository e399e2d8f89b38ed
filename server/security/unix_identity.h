// What peers of a Unix socket are called. Stateless.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/strings/string_view.h"

namespace engram {

// Those whose user nobody told, and what begins the names of the others.
inline constexpr char kUnixIdentity[] = "unix";
std::string UnixIdentity(uid_t uid);  // "unix:1000"
// Whether it is what UnixIdentity gives: digits alone, without a sign, a space or a zero before.
bool NamesUnixUser(absl::string_view identity);
// Whether it is a name of that kind: "unix", "unix:" and what follows.
bool IsUnixIdentity(absl::string_view identity);

}  // namespace engram
