#include "server/security/unix_identity.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {

std::string UnixIdentity(uid_t uid) { return absl::StrCat(kUnixIdentity, ":", uid); }

bool IsUnixIdentity(absl::string_view identity) {
  return absl::ConsumePrefix(&identity, kUnixIdentity) &&
         (identity.empty() || identity.front() == ':');
}

}  // namespace engram
