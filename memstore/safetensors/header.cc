#include "memstore/safetensors/header.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/safetensors/header_json.h"

namespace engram {
namespace {

// The header's length stands before it, little-endian.
constexpr uint64_t kLengthBytes = 8;
// What stands in the place of a large file in a clone that was made without Git LFS.
constexpr absl::string_view kLfsPointer = "version https://git-lfs";
constexpr absl::string_view kGgufMagic = "GGUF";

struct Dtype {
  const char* name;
  uint64_t bits;
};
constexpr Dtype kDtypes[] = {{"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"BOOL", 8},
                             {"U8", 8},      {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8},
                             {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
                             {"U16", 16},    {"F16", 16},        {"BF16", 16},       {"I32", 32},
                             {"U32", 32},    {"F32", 32},        {"F64", 64},        {"I64", 64},
                             {"U64", 64},    {"C64", 64}};
constexpr uint64_t kByteBits = 8;

std::string InFile(absl::string_view name, absl::string_view path) {
  return absl::StrCat("the tensor ", QuoteForMessage(name), " in ", path);
}

// What a file is whose first bytes are no length of a header.
absl::Status NoSafetensors(absl::string_view begin, const std::string& path, uint64_t file_bytes,
                           uint64_t length) {
  if (absl::StartsWith(begin, kLfsPointer)) {
    return absl::DataLossError(absl::StrCat(
        path, " is a Git LFS pointer, not the file itself: run `git lfs pull`, or download it"));
  }
  if (absl::StartsWith(begin, kGgufMagic)) {
    return absl::DataLossError(
        absl::StrCat(path, " is a GGUF file, whatever its name says: give it with --gguf"));
  }
  return absl::DataLossError(absl::StrCat(path, " is no safetensors file, or cut off: it has ",
                                          file_bytes, " bytes and says that its header has ",
                                          length, "; download it again"));
}

struct OpenHeader {
  FileDescriptor file;
  FileStamp stamp;  // before a byte of it was read
  uint64_t file_bytes = 0;
  uint64_t length = 0;  // of the header's text
};

absl::StatusOr<OpenHeader> OpenFileHeader(const std::string& path) {
  OpenHeader open;
  ENGRAM_ASSIGN_OR_RETURN(open.file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  ENGRAM_ASSIGN_OR_RETURN(open.file_bytes, RegularFileBytes(open.file, path));
  ENGRAM_ASSIGN_OR_RETURN(open.stamp, StampOf(open.file, path));
  std::string begin(std::min<uint64_t>(open.file_bytes, kLfsPointer.size()), '\0');
  ENGRAM_RETURN_IF_ERROR(
      ReadFully(open.file, 0,
                absl::MakeSpan(reinterpret_cast<std::byte*>(begin.data()), begin.size()), path));
  if (begin.size() >= kLengthBytes) std::memcpy(&open.length, begin.data(), kLengthBytes);
  if (begin.size() < kLengthBytes || open.length < 2 ||
      open.length > open.file_bytes - kLengthBytes) {
    return NoSafetensors(begin, path, open.file_bytes, open.length);
  }
  if (open.length > kMaxHeaderBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the header of ", path, " has ", open.length, " bytes, more than the limit of ",
        kMaxHeaderBytes, " that safetensors sets: save the model again in more shards (as with ",
        "max_shard_size), so that each file has fewer tensors, and without long metadata"));
  }
  return open;
}

// Bytes that dtype and shape make.
absl::StatusOr<uint64_t> TensorBytes(const TensorPlace& tensor) {
  unsigned __int128 bits = 0;
  for (const Dtype& dtype : kDtypes) {
    if (tensor.dtype == dtype.name) bits = dtype.bits;
  }
  if (bits == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(InFile(tensor.name, tensor.file), " has the dtype \"",
                     QuoteForMessage(tensor.dtype), "\", which this program does not know"));
  }
  // A product of 0 must not hide a size that can't be.
  unsigned __int128 bound = bits;
  for (const uint64_t size : tensor.shape) {
    bits *= size;
    bound *= std::max<uint64_t>(size, 1);
    if (bound > INT64_MAX) {
      return absl::DataLossError(absl::StrCat(InFile(tensor.name, tensor.file),
                                              " has a shape that can't be: ", Describe(tensor)));
    }
  }
  if (bits % kByteBits != 0) {
    return absl::DataLossError(absl::StrCat(InFile(tensor.name, tensor.file), " is ",
                                            Describe(tensor),
                                            ", which is no whole number of "
                                            "bytes"));
  }
  return static_cast<uint64_t>(bits / kByteBits);
}

absl::StatusOr<TensorPlace> Place(const std::string& name, const HeaderEntry& entry,
                                  const std::string& path, uint64_t data_begin,
                                  uint64_t file_bytes) {
  if (entry.is_bad) {
    return absl::DataLossError(absl::StrCat(
        InFile(name, path), " has an entry that is no safetensors, or is there twice: ",
        QuoteForMessage(entry.bad_key)));
  }
  if (!entry.IsWhole() || entry.offsets.size() != 2 || entry.offsets[0] > entry.offsets[1]) {
    return absl::DataLossError(
        absl::StrCat(InFile(name, path), " lacks a sound dtype, shape or data_offsets"));
  }
  TensorPlace place{name, path, entry.dtype, entry.shape, 0, entry.offsets[1] - entry.offsets[0]};
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(place));
  if (bytes != place.bytes) {
    return absl::DataLossError(absl::StrCat(InFile(name, path), " is ", Describe(place),
                                            ", which is ", bytes,
                                            " bytes, but its data_offsets span ", place.bytes));
  }
  if (entry.offsets[1] > file_bytes - data_begin) {
    return absl::DataLossError(
        absl::StrCat(path, " is cut off: the tensor ", QuoteForMessage(name), " ends at byte ",
                     entry.offsets[1], " of its data, the file holds ", file_bytes - data_begin,
                     " bytes of data; download it again"));
  }
  place.offset = data_begin + entry.offsets[0];
  return place;
}

using Extent = std::pair<uint64_t, uint64_t>;  // of the data

// The names of the tensors at `extent`, for a message: found by another walk, so that the common
// one keeps no names.
std::vector<std::string> NamesAt(absl::string_view text, const Extent& extent) {
  std::vector<std::string> names;
  WalkHeader(text, [&](const std::string& name, const HeaderEntry& entry) {
    if (entry.offsets.size() >= 2 && Extent(entry.offsets[0], entry.offsets[1]) == extent) {
      names.push_back(name);
    }
    return absl::OkStatus();
  }).IgnoreError();
  return names;
}

absl::Status Overlap(absl::string_view text, const std::string& path, const Extent& before,
                     const Extent& after) {
  std::vector<std::string> first = NamesAt(text, before), second = NamesAt(text, after);
  if (before == after) second.erase(second.begin());
  return absl::DataLossError(absl::StrCat(
      path, ": the tensors ", QuoteForMessage(first.front()), " (bytes ", before.first, "..",
      before.second - 1, " of its data) and ", QuoteForMessage(second.front()), " (bytes ",
      after.first, "..", after.second - 1,
      ") overlap: the file is damaged, or not what its header says; download it again"));
}

// What of `data_bytes` bytes of data no tensor has; DATA_LOSS names two tensors that share bytes:
// at most one of them can be what was written.
absl::StatusOr<std::vector<ByteRange>> FindStray(std::vector<Extent> extents,
                                                 absl::string_view text, const std::string& path,
                                                 uint64_t data_bytes) {
  std::sort(extents.begin(), extents.end());
  std::vector<ByteRange> stray;
  uint64_t end = 0;
  for (size_t i = 0; i < extents.size(); ++i) {
    if (i > 0 && extents[i].first < extents[i - 1].second) {
      return Overlap(text, path, extents[i - 1], extents[i]);
    }
    const uint64_t begin = std::min(extents[i].first, data_bytes);
    if (begin > end && stray.size() < kMaxStray) stray.push_back({end, begin});
    end = std::min(extents[i].second, data_bytes);
  }
  if (end < data_bytes && stray.size() < kMaxStray) stray.push_back({end, data_bytes});
  return stray;
}

}  // namespace

std::string Describe(const TensorPlace& tensor) {
  return absl::StrCat(QuoteForMessage(tensor.dtype), " [", absl::StrJoin(tensor.shape, ", "), "]");
}

absl::StatusOr<uint64_t> SafetensorsHeaderBytes(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(const OpenHeader open, OpenFileHeader(path));
  return open.length;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const std::string& path,
                                                        const WantedTensor& wanted) {
  ENGRAM_ASSIGN_OR_RETURN(const OpenHeader open, OpenFileHeader(path));
  std::string text(open.length, '\0');
  ENGRAM_RETURN_IF_ERROR(
      ReadFully(open.file, kLengthBytes,
                absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size()), path));
  const uint64_t data_begin = kLengthBytes + open.length;
  SafetensorsHeader header;
  header.sha256 = Sha256Hex(text);
  std::vector<Extent> extents;
  absl::Status problem;
  absl::Status walked = WalkHeader(text, [&](const std::string& name, const HeaderEntry& entry) {
    // Of other tensors the bytes alone count; one that is no sound entry has none.
    if (entry.offsets.size() >= 2 && entry.offsets[0] < entry.offsets[1]) {
      extents.emplace_back(entry.offsets[0], entry.offsets[1]);
    }
    if (!wanted(name)) return absl::OkStatus();
    absl::StatusOr<TensorPlace> place = Place(name, entry, path, data_begin, open.file_bytes);
    if (place.ok()) place->as_read = open.stamp;
    if (!place.ok()) {
      problem = place.status();
    } else if (!header.tensors.emplace(name, *std::move(place)).second) {
      problem = absl::DataLossError(
          absl::StrCat(path, " holds the tensor ", QuoteForMessage(name), " twice: save it again"));
    } else if (header.tensors.size() > kMaxWantedTensors) {
      problem = absl::ResourceExhaustedError(absl::StrCat(path, " cuts a table into more than ",
                                                          kMaxWantedTensors,
                                                          " tensors, which is the limit"));
    }
    return problem;
  });
  ENGRAM_RETURN_IF_ERROR(problem);
  if (!walked.ok()) {
    return absl::DataLossError(absl::StrCat("the header of ", path, ": ", walked.message()));
  }
  ENGRAM_ASSIGN_OR_RETURN(header.stray,
                          FindStray(std::move(extents), text, path, open.file_bytes - data_begin));
  for (ByteRange& range : header.stray) {
    range.begin += data_begin;
    range.end += data_begin;
  }
  return header;
}

}  // namespace engram
