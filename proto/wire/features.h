// What an end of a connection can do beyond what every one can: names that Attach and the
// handshakes exchange. A client sends nothing that was not offered; an end that is older than
// features offers none, and says no version. Unknown names are somebody else's and skipped.
//
// Plain functions over the caller's strings, thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/wire/version.h"

namespace engram::wire {

// An owner takes token ids with a slice of columns for each layer.
inline constexpr absl::string_view kTokenSlices = "token_slices";
// An owner holds row ids that stand [tokens, columns] against the rows of their columns.
inline constexpr absl::string_view kColumnChecks = "column_checks";
// An owner refuses, by token ids, an image's token that is not dead, and takes a mark in the
// request that allows it. One without it takes them all, and no such mark.
inline constexpr absl::string_view kImageChecks = "image_checks";
// Of a reply over shared memory: the owner holds a part of the set, and sends the rows of it that
// it holds. Over gRPC Attach says so by itself.
inline constexpr absl::string_view kHeldRows = "held_rows";
// An owner takes, over gRPC, token ids behind windows of compressed ids, as clients of ours keep
// them. Whoever offers it offers the other features of token ids, too.
inline constexpr absl::string_view kTokenWindows = "token_windows";
// What this build knows, and what engramd offers over gRPC; other ways offer their own.
inline constexpr std::array<absl::string_view, 4> kKnownFeatures = {kTokenSlices, kColumnChecks,
                                                                    kImageChecks, kTokenWindows};
// Image token ids that an owner sends at most, and a client takes.
inline constexpr size_t kMostImageTokenIds = 1024;

// Names and versions that an end reads of the other: more, or longer ones, are cut off or skipped,
// so that a hostile one costs nothing.
inline constexpr size_t kMostFeatures = 64;
inline constexpr size_t kMostFeatureBytes = 64;  // of a name, and of a version

template <typename Names>
bool HasFeature(const Names& offered, absl::string_view feature) {
  return std::any_of(offered.begin(), offered.end(),
                     [&](absl::string_view name) { return name == feature; });
}

// UNIMPLEMENTED that names the feature, both versions, and which side to upgrade. `other` is who
// lacks it ("engramd at HOST:PORT"); `other_version` is empty where it said none.
inline absl::Status LacksFeature(absl::string_view feature, absl::string_view other,
                                 absl::string_view other_version) {
  return absl::UnimplementedError(absl::StrCat(
      other, " does not offer ", feature, ": it is version ",
      other_version.empty() ? "unknown (older than features)" : other_version,
      ", this side is version ", kEngramVersion, ": upgrade ", other, ", or do without ", feature));
}

}  // namespace engram::wire
