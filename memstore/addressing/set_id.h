// Which table set a value is of: what sequence states and plans carry, so that one of another set
// is refused and not addressed or asked for with.
//
// The first 64 bits of the set's id (a SHA-256): eight bytes that are copied with every state of
// every batch. Two sets that share them by chance would need some 2^32 sets; it guards against
// mistakes, and nobody gains by forging it: requests and attaching go by the whole id. A value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

class ShortSetId {
 public:
  // Of no set.
  constexpr ShortSetId() = default;
  // Of the set with this id, as manifests and messages have it: 64 lower-case hexadecimal digits.
  // Of no set where it is none.
  static ShortSetId Of(absl::string_view set_id);

  constexpr bool is_none() const { return bits_ == 0; }
  constexpr uint64_t bits() const { return bits_; }
  std::string ToString() const;  // the id's first 16 digits, or "none"

  friend constexpr bool operator==(ShortSetId, ShortSetId) = default;

 private:
  uint64_t bits_ = 0;
};

// People name a set by its id or by the first digits of it, as `engram admin list` shows them: so
// many that two sets which share them are found by nobody by chance.
inline constexpr size_t kLeastIdDigits = 12;
// 12 to 64 lower-case hexadecimal digits. A name may look so, too.
bool LooksLikeAnId(absl::string_view text);
// Whether it would look like one if it had more digits.
bool LooksLikeTooFewDigits(absl::string_view text);
// Whether it looks like an id and this one is it, or begins with it.
bool IsIdOrItsBeginning(absl::string_view text, absl::string_view set_id);

// OK, or FAILED_PRECONDITION that names both: `what` ("the plan") was made with table set `made`
// and used with `used`. `fix` says what to do.
absl::Status CheckSameSet(absl::string_view what, ShortSetId made, ShortSetId used,
                          absl::string_view fix);

}  // namespace engram
