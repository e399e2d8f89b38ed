// What a file is, by the bytes that it begins with: numbers, or what somebody took for them.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/token_files/byte_reader.h"

namespace engram {

enum class FileKind { kRaw, kNpy, kText, kJson, kZip };

// Looks at no more bytes than it needs to tell, and takes none. Text: characters without any that
// control a machine, which no file of raw token ids is: an id has a byte of zeros.
absl::StatusOr<FileKind> LookAtKind(ByteReader* reader);

// Whether raw int32 are, by their looks, int64: of the first 262,144 numbers, every second one is 0
// or -1, in the odd places of whole pairs or, where some show it, in either places of what is cut
// and with one exception in 16 pairs. A single pair is where it is an int64 that an int32 holds:
// two ids of which the second is 0 are as much one id, and nobody but its writer can tell. Looks no
// further than it needs to tell, and takes none.
absl::StatusOr<bool> LooksLikeInt64(ByteReader* reader);

// INVALID_ARGUMENT for text, JSON or a ZIP file where raw numbers were meant: says which it is, and
// `cure`.
absl::Status NotNumbers(FileKind kind, const std::string& name, absl::string_view cure);

}  // namespace engram
