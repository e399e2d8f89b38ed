#include "memstore/pack/safetensors.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/json_walk.h"

namespace engram {
namespace {

constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr char kSingleFile[] = "model.safetensors";
// The header's length stands before it, little-endian.
constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxRank = 8;

struct Dtype {
  const char* name;
  uint64_t bytes;
};
constexpr Dtype kDtypes[] = {{"BOOL", 1},    {"U8", 1},      {"I8", 1},  {"F8_E5M2", 1},
                             {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"I16", 2}, {"U16", 2},
                             {"F16", 2},     {"BF16", 2},    {"I32", 4}, {"U32", 4},
                             {"F32", 4},     {"F64", 8},     {"I64", 8}, {"U64", 8}};

// A tensor's entry in a header, as far as it was read.
struct Entry {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> offsets;
  std::set<std::string> keys;
};

absl::Status ReadEntryValue(const std::string& path, const JsonPath& at, const JsonValue& value,
                            Entry& entry) {
  const std::string& key = at[1];
  entry.keys.insert(key);
  if (key == "dtype" && at.size() == 2 && value.text != nullptr) {
    entry.dtype = *value.text;
    return absl::OkStatus();
  }
  std::vector<uint64_t>* numbers = key == "shape"          ? &entry.shape
                                   : key == "data_offsets" ? &entry.offsets
                                                           : nullptr;
  if (numbers != nullptr && at.size() == 2 && value.begins_array) return absl::OkStatus();
  if (numbers != nullptr && at.size() == 3 && value.number != nullptr &&
      numbers->size() < kMaxRank) {
    numbers->push_back(*value.number);
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("the tensor ", QuoteForMessage(at[0]), " in ", path,
                   " has an entry that is no safetensors: ", QuoteForMessage(key)));
}

// The text of the header; the data begin behind it.
absl::StatusOr<std::string> ReadHeader(const FileDescriptor& file, uint64_t file_bytes,
                                       const std::string& path) {
  uint64_t length = 0;
  if (file_bytes >= kLengthBytes) {
    std::byte bytes[kLengthBytes];
    absl::Status status = ReadFully(file, 0, bytes, path);
    if (!status.ok()) return status;
    std::memcpy(&length, bytes, sizeof(length));
  }
  if (length < 2 || length > kMaxHeaderBytes || length > file_bytes - kLengthBytes) {
    return absl::DataLossError(absl::StrCat(path, " is no safetensors file, or cut off: it has ",
                                            file_bytes, " bytes and says that its header has ",
                                            length, " (at most ", kMaxHeaderBytes, ")"));
  }
  std::string header(length, '\0');
  absl::Status status =
      ReadFully(file, kLengthBytes,
                absl::MakeSpan(reinterpret_cast<std::byte*>(header.data()), header.size()), path);
  if (!status.ok()) return status;
  return header;
}

// Bytes that dtype and shape make.
absl::StatusOr<uint64_t> TensorBytes(const TensorPlace& tensor) {
  unsigned __int128 bytes = 0;
  for (const Dtype& dtype : kDtypes) {
    if (tensor.dtype == dtype.name) bytes = dtype.bytes;
  }
  if (bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tensor ", QuoteForMessage(tensor.name), " in ", tensor.file, " has the dtype \"",
        QuoteForMessage(tensor.dtype), "\", which this program does not know"));
  }
  for (const uint64_t size : tensor.shape) {
    bytes *= size;
    if (bytes > INT64_MAX) {
      return absl::DataLossError(absl::StrCat("the tensor ", QuoteForMessage(tensor.name), " in ",
                                              tensor.file,
                                              " has a shape that can't be: ", Describe(tensor)));
    }
  }
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<TensorPlace> Place(const std::string& name, const Entry& entry,
                                  const std::string& path, uint64_t data_begin,
                                  uint64_t file_bytes) {
  if (entry.keys.size() != 3 || entry.offsets.size() != 2 || entry.offsets[0] > entry.offsets[1]) {
    return absl::DataLossError(absl::StrCat("the tensor ", QuoteForMessage(name), " in ", path,
                                            " lacks a sound dtype, shape or data_offsets"));
  }
  TensorPlace place{name, path, entry.dtype, entry.shape, 0, entry.offsets[1] - entry.offsets[0]};
  absl::StatusOr<uint64_t> bytes = TensorBytes(place);
  if (!bytes.ok()) return bytes.status();
  if (*bytes != place.bytes) {
    return absl::DataLossError(absl::StrCat("the tensor ", QuoteForMessage(name), " in ", path,
                                            " is ", Describe(place), ", which is ", *bytes,
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

// Where the data of one tensor lie, as a header says it.
struct Extent {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string name;
};

// Collects the extents of all tensors of a header, wanted or not.
class Extents {
 public:
  // Called for every value of the header.
  void Add(const JsonPath& at, const JsonValue& value) {
    if (at.size() < 2 || at[1] != "data_offsets") return;
    if (value.begins_array) {
      extents_.push_back({0, 0, at[0]});
      numbers_ = 0;
    } else if (value.number != nullptr && !extents_.empty()) {
      // A third number is no safetensors: of a wanted tensor Place() says so.
      if (numbers_ == 0) extents_.back().begin = *value.number;
      if (numbers_ == 1) extents_.back().end = *value.number;
      ++numbers_;
    }
  }

  // DATA_LOSS names two tensors that share bytes: at most one of them can be what was written.
  absl::Status CheckApart(const std::string& path) {
    std::erase_if(extents_, [](const Extent& extent) { return extent.begin >= extent.end; });
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    for (size_t i = 1; i < extents_.size(); ++i) {
      const Extent &before = extents_[i - 1], &after = extents_[i];
      if (after.begin >= before.end) continue;
      return absl::DataLossError(absl::StrCat(
          path, ": the tensors ", QuoteForMessage(before.name), " (bytes ", before.begin, "..",
          before.end - 1, " of its data) and ", QuoteForMessage(after.name), " (bytes ",
          after.begin, "..", after.end - 1,
          ") overlap: the file is damaged, or not what its header says; download it again"));
    }
    return absl::OkStatus();
  }

 private:
  std::vector<Extent> extents_;
  int numbers_ = 0;  // of the last extent, seen so far
};

// The wanted tensors of one file.
absl::Status ReadFileTensors(const std::string& path, const WantedTensor& wanted,
                             std::map<std::string, TensorPlace>& tensors) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!file.ok()) return file.status();
  absl::StatusOr<uint64_t> bytes = RegularFileBytes(*file, path);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<std::string> header = ReadHeader(*file, *bytes, path);
  if (!header.ok()) return header.status();
  std::map<std::string, Entry> entries;
  Extents extents;
  absl::Status status = WalkJson(*header, [&](const JsonPath& at, const JsonValue& value) {
    extents.Add(at, value);
    if (at.size() < 2 || !wanted(at[0])) return absl::OkStatus();
    return ReadEntryValue(path, at, value, entries[at[0]]);
  });
  if (absl::IsInvalidArgument(status)) {
    return absl::DataLossError(absl::StrCat("the header of ", path, ": ", status.message()));
  }
  if (!status.ok()) return status;
  for (const auto& [name, entry] : entries) {
    absl::StatusOr<TensorPlace> place =
        Place(name, entry, path, kLengthBytes + header->size(), *bytes);
    if (!place.ok()) return place.status();
    tensors.emplace(name, std::move(*place));
  }
  return extents.CheckApart(path);
}

using TensorsByFile = std::map<std::string, std::set<std::string>>;

// The wanted tensors of the index, by the file that it says they are in.
absl::StatusOr<TensorsByFile> ReadIndex(const std::string& path, absl::string_view text,
                                        const WantedTensor& wanted) {
  TensorsByFile files;
  absl::Status status = WalkJson(text, [&](const JsonPath& at, const JsonValue& value) {
    if (at.size() != 2 || at[0] != "weight_map" || !wanted(at[1])) return absl::OkStatus();
    if (value.text == nullptr || value.text->empty() || absl::StrContains(*value.text, '/')) {
      return absl::InvalidArgumentError(
          absl::StrCat("the tensor ", QuoteForMessage(at[1]), " has no plain file name"));
    }
    files[*value.text].insert(at[1]);
    return absl::OkStatus();
  });
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the index ", path, ": ", status.message()));
  }
  return files;
}

}  // namespace

std::string Describe(const TensorPlace& tensor) {
  return absl::StrCat(QuoteForMessage(tensor.dtype), " [", absl::StrJoin(tensor.shape, ", "), "]");
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory,
                                            const WantedTensor& wanted) {
  Checkpoint checkpoint(directory);
  const std::string index_path = JoinPath(directory, kIndexFile);
  absl::StatusOr<std::string> index = ReadWholeFile(index_path, kMaxHeaderBytes);
  if (absl::IsNotFound(index.status())) {
    const std::string path = JoinPath(directory, kSingleFile);
    absl::Status status = ReadFileTensors(path, wanted, checkpoint.tensors_);
    if (absl::IsNotFound(status)) {
      return absl::NotFoundError(absl::StrCat("there is no checkpoint at ", directory,
                                              ": it holds neither ", kIndexFile, " nor ",
                                              kSingleFile));
    }
    if (!status.ok()) return status;
    return checkpoint;
  }
  if (!index.ok()) return index.status();
  absl::StatusOr<TensorsByFile> files = ReadIndex(index_path, *index, wanted);
  if (!files.ok()) return files.status();
  for (const auto& [file, names] : *files) {
    const std::string path = JoinPath(directory, file);
    const auto is_here = [&names = names](absl::string_view name) {
      return names.count(std::string(name)) > 0;
    };
    absl::Status status = ReadFileTensors(path, is_here, checkpoint.tensors_);
    if (absl::IsNotFound(status)) {
      return absl::NotFoundError(absl::StrCat(QuoteForMessage(path), ", which holds the tensor ",
                                              QuoteForMessage(*names.begin()),
                                              " by the index, is missing: download it"));
    }
    if (!status.ok()) return status;
    for (const std::string& name : names) {
      if (checkpoint.tensors_.count(name) > 0) continue;
      return absl::NotFoundError(absl::StrCat(
          path, " does not hold the tensor ", QuoteForMessage(name), ", which the index ",
          index_path, " says it does: index and file are of different downloads"));
    }
  }
  return checkpoint;
}

absl::StatusOr<const TensorPlace*> Checkpoint::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it != tensors_.end()) return &it->second;
  return absl::NotFoundError(absl::StrCat("the checkpoint ", directory_, " lacks the tensor ", name,
                                          ": is it a checkpoint of this family?"));
}

}  // namespace engram
