// The header of a .npy file: what NumPy's numpy.save writes before an array's bytes.
//
// Versions 1 to 3. Every byte is hostile: the header is bounded, and its words are held against the
// three keys that there are. Stateless.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/token_files/byte_reader.h"

namespace engram {

inline constexpr absl::string_view kNpyMagic{"\x93NUMPY", 6};

struct NpyHeader {
  std::string type;       // as NumPy spells it: "<i4"; of a structured array, its fields
  uint64_t elements = 0;  // of all dimensions together
  std::string shape;      // as written: "(20,)"
};

// Takes the header of a file that begins with kNpyMagic; the array's bytes come next.
// INVALID_ARGUMENT names the file: another version, a header that is none or is cut off, an array
// in Fortran's order, or one with more than one dimension that is not 1, whose rows may be
// sequences of their own.
absl::StatusOr<NpyHeader> ReadNpyHeader(ByteReader* reader);

}  // namespace engram
