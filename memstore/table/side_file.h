// A side file: what is known of a table set besides its rows and their addresses. Optional, bound
// to one set by its id, never part of the id (proto/FORMATS.md, "Side files").
//
// A file is a head of kSideFileHeadBytes, one line of text padded with spaces,
//   "engram-side-file 1 KIND SET_ID BODY_SHA256 BODY_BYTES" ... "\n",
// then the body. The head has one length so that it can be written last, when the set's id is
// known. Stateless, thread-safe. Errors name the file and say that it may be deleted: whoever finds
// a side file that is damaged, short or another set's refuses it, but the set without it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// Room for the longest kind, two digests and a length.
inline constexpr size_t kSideFileHeadBytes = 256;
// Every side file's name ends so, and no other file of a set's does.
inline constexpr char kSideFileSuffix[] = ".side";
// The one file that a set is not whole without (side_files.h).
inline constexpr char kLinksFile[] = "links.side";
// A kind is at most so long: "page-checksums", say.
inline constexpr size_t kMaxSideFileKindBytes = 32;

// What to say of a side file whose body is not what its kind asks for: DATA_LOSS, "side file PATH
// WHAT", and what can be done.
absl::Status DamagedSideFile(absl::string_view path, absl::string_view what);

// The head of a file whose body has this digest (Sha256Hex) and length.
std::string SideFileHead(absl::string_view kind, absl::string_view set_id,
                         absl::string_view body_sha256, uint64_t body_bytes);

// Makes a new file with head and body, durably. ALREADY_EXISTS when there is one.
absl::Status WriteSideFile(const std::string& path, absl::string_view kind,
                           absl::string_view set_id, absl::string_view body);

// The body, when the file is whole, of this kind and of this set. NOT_FOUND: there is none.
// DATA_LOSS: it is damaged, cut off, of another kind or of another version. FAILED_PRECONDITION: it
// is of another set; both ids are named. RESOURCE_EXHAUSTED: the body is longer than `max_bytes`.
absl::StatusOr<std::string> ReadSideFile(const std::string& path, absl::string_view kind,
                                         absl::string_view set_id, uint64_t max_bytes);

}  // namespace engram
