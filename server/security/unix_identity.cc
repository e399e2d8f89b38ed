#include "server/security/unix_identity.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {

std::string UnixIdentity(uid_t uid) { return absl::StrCat(kUnixIdentity, ":", uid); }

bool NamesUnixUser(absl::string_view identity) {
  absl::string_view digits = identity;
  uid_t uid = 0;
  return absl::ConsumePrefix(&digits, kUnixIdentity) && absl::ConsumePrefix(&digits, ":") &&
         absl::SimpleAtoi(digits, &uid) && UnixIdentity(uid) == identity;
}

bool IsUnixIdentity(absl::string_view identity) {
  return absl::ConsumePrefix(&identity, kUnixIdentity) &&
         (identity.empty() || identity.front() == ':');
}

}  // namespace engram
