#include "memstore/gguf/header.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/gguf/byte_reader.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr absl::string_view kLfsPointer = "version https://git-lfs";
constexpr uint64_t kDefaultAlignment = 32;
constexpr char kAlignmentKey[] = "general.alignment";
// A warning names a few.
constexpr size_t kMaxStray = 16;

// The format's numbers of its values' types.
enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// 0: no number.
uint64_t BytesOf(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

GgufValue::Kind KindOf(uint32_t type) {
  switch (type) {
    case kBool:
      return GgufValue::Kind::kBool;
    case kFloat32:
    case kFloat64:
      return GgufValue::Kind::kReal;
    case kString:
      return GgufValue::Kind::kText;
    default:
      return GgufValue::Kind::kWhole;
  }
}

void AddNumber(uint32_t type, uint64_t bits, GgufValue& value) {
  switch (type) {
    case kFloat32:
      value.reals.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
      return;
    case kFloat64:
      value.reals.push_back(std::bit_cast<double>(bits));
      return;
    case kInt8:
      value.numbers.push_back(static_cast<int8_t>(bits));
      return;
    case kInt16:
      value.numbers.push_back(static_cast<int16_t>(bits));
      return;
    case kInt32:
      value.numbers.push_back(static_cast<int32_t>(bits));
      return;
    default:
      if (type == kUint64 && bits > INT64_MAX) value.too_large = true;
      value.numbers.push_back(static_cast<int64_t>(bits));
  }
}

// Reads one header; the position is the reader's.
class HeaderReader {
 public:
  HeaderReader(const std::string& path, const WantedGgufKey& wanted, GgufByteReader reader)
      : path_(path), wanted_(wanted), reader_(std::move(reader)) {}

  absl::StatusOr<GgufHeader> Read() {
    ENGRAM_RETURN_IF_ERROR(ReadVersion());
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t tensors, reader_.Number(8, "the number of tensors"));
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t keys, reader_.Number(8, "the number of keys"));
    ENGRAM_RETURN_IF_ERROR(CheckCount(tensors, kMaxGgufTensors, "tensors"));
    ENGRAM_RETURN_IF_ERROR(CheckCount(keys, kMaxGgufKeys, "keys"));
    for (uint64_t i = 0; i < keys; ++i) ENGRAM_RETURN_IF_ERROR(ReadKey());
    for (uint64_t i = 0; i < tensors; ++i) ENGRAM_RETURN_IF_ERROR(ReadTensor());
    // Data begins at the next multiple of the alignment, and offsets count from there.
    header_.header_bytes = (reader_.position() + alignment_ - 1) / alignment_ * alignment_;
    ENGRAM_RETURN_IF_ERROR(PlaceTensors());
    return std::move(header_);
  }

 private:
  absl::Status Damaged(absl::string_view what) const {
    return absl::DataLossError(
        absl::StrCat(path_, " is damaged, or no sound GGUF: ", what, "; download it again"));
  }

  absl::Status CheckCount(uint64_t count, uint64_t most, absl::string_view what) const {
    if (count <= most) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(path_, " says that it has ", count, " ", what,
                                                     ", at most ", most,
                                                     " are read: it is damaged, or no model"));
  }

  absl::Status ReadVersion() {
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t magic, reader_.Number(4, "its first bytes"));
    if (magic != kMagic) {
      return absl::DataLossError(absl::StrCat(path_,
                                              " is no GGUF file: it does not begin with "
                                              "\"GGUF\""));
    }
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t version, reader_.Number(4, "the version"));
    header_.version = static_cast<uint32_t>(version);
    if (version == 2 || version == 3) return absl::OkStatus();
    // The magic is the same in both byte orders, the version is not.
    const bool is_big_endian = version != 0 && (version & 0xffff) == 0;
    return absl::FailedPreconditionError(
        is_big_endian
            ? absl::StrCat(path_,
                           " is big-endian GGUF, and only little-endian GGUF is read: "
                           "convert it with gguf_convert_endian.py of llama.cpp")
            : absl::StrCat(path_, " is GGUF of version ", version,
                           ", and versions 2 and 3 are read: convert it with its writer's tools"));
  }

  // Of all that is kept.
  absl::Status Keep(uint64_t bytes, const std::string& what) {
    kept_bytes_ += bytes;
    if (kept_bytes_ <= kMaxGgufKeptBytes) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat(path_, ": with ", what, " the names and values to be kept pass ",
                     kMaxGgufKeptBytes, " bytes: the file is damaged, or no model"));
  }

  absl::Status ReadKey() {
    ENGRAM_ASSIGN_OR_RETURN(const std::string key, reader_.Text(kMaxGgufNameBytes, "a key"));
    if (!keys_.insert(key).second) {
      return Damaged(absl::StrCat("it holds the key ", QuoteForMessage(key), " twice"));
    }
    const std::string what = absl::StrCat("the value of ", QuoteForMessage(key));
    ENGRAM_RETURN_IF_ERROR(Keep(key.size(), what));
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t type, reader_.Number(4, what));
    GgufValue value;
    const bool keep = wanted_(key) || key == kAlignmentKey;
    ENGRAM_RETURN_IF_ERROR(ReadValue(static_cast<uint32_t>(type), what, keep, value));
    if (key == kAlignmentKey) ENGRAM_RETURN_IF_ERROR(TakeAlignment(value));
    if (keep && wanted_(key)) header_.metadata.emplace(key, std::move(value));
    return absl::OkStatus();
  }

  absl::Status TakeAlignment(const GgufValue& value) {
    const bool is_number = value.kind == GgufValue::Kind::kWhole && !value.is_list;
    const int64_t alignment = is_number ? value.numbers[0] : 0;
    if (alignment <= 0 || static_cast<uint64_t>(alignment) > kMaxGgufAlignment ||
        !std::has_single_bit(static_cast<uint64_t>(alignment))) {
      return Damaged(absl::StrCat(kAlignmentKey, " is ", alignment,
                                  ", it must be a power of two up to ", kMaxGgufAlignment));
    }
    alignment_ = static_cast<uint64_t>(alignment);
    return absl::OkStatus();
  }

  absl::Status ReadValue(uint32_t type, const std::string& what, bool keep, GgufValue& value) {
    uint64_t count = 1;
    value.is_list = type == kArray;
    if (value.is_list) {
      ENGRAM_ASSIGN_OR_RETURN(const uint64_t of, reader_.Number(4, what));
      ENGRAM_ASSIGN_OR_RETURN(count, reader_.Number(8, what));
      type = static_cast<uint32_t>(of);
    }
    const uint64_t bytes = BytesOf(type);
    if (bytes == 0 && type != kString) {
      return Damaged(absl::StrCat(what, " has the type ", type,
                                  type == kArray ? ", a list of lists, which is not read" : ""));
    }
    // Before anything is kept of it: a list cannot be longer than the file is.
    if (count > reader_.left() / std::max<uint64_t>(bytes, 1)) {
      return reader_.CutOff(absl::StrCat(what, ", a list of ", count));
    }
    if (type == kString) return ReadTexts(count, what, keep, value);
    if (!keep) return reader_.Skip(count * bytes, what);
    ENGRAM_RETURN_IF_ERROR(CheckCount(count, kMaxGgufNumbers, "numbers in one list"));
    ENGRAM_RETURN_IF_ERROR(Keep(count * sizeof(int64_t), what));
    value.kind = KindOf(type);
    for (uint64_t i = 0; i < count; ++i) {
      ENGRAM_ASSIGN_OR_RETURN(const uint64_t bits, reader_.Number(bytes, what));
      AddNumber(type, bits, value);
    }
    return absl::OkStatus();
  }

  absl::Status ReadTexts(uint64_t count, const std::string& what, bool keep, GgufValue& value) {
    if (keep && !value.is_list) {
      value.kind = GgufValue::Kind::kText;
      ENGRAM_ASSIGN_OR_RETURN(value.text, reader_.Text(kMaxGgufTextBytes, what));
      return Keep(value.text.size(), what);
    }
    for (uint64_t i = 0; i < count; ++i) {
      ENGRAM_ASSIGN_OR_RETURN(const uint64_t bytes, reader_.Number(8, what));
      ENGRAM_RETURN_IF_ERROR(reader_.Skip(bytes, what));
    }
    return absl::OkStatus();
  }

  absl::Status ReadTensor() {
    GgufTensor tensor;
    ENGRAM_ASSIGN_OR_RETURN(tensor.name, reader_.Text(kMaxGgufNameBytes, "a tensor's name"));
    tensor.file = path_;
    const std::string what = absl::StrCat("the tensor ", QuoteForMessage(tensor.name));
    ENGRAM_RETURN_IF_ERROR(Keep(tensor.name.size(), what));
    if (!names_.insert(tensor.name).second) return Damaged(absl::StrCat(what, " is there twice"));
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t dimensions, reader_.Number(4, what));
    if (dimensions > kMaxGgufDimensions) {
      return Damaged(
          absl::StrCat(what, " has ", dimensions, " dimensions, more than ", kMaxGgufDimensions));
    }
    for (uint64_t i = 0; i < dimensions; ++i) {
      ENGRAM_ASSIGN_OR_RETURN(const uint64_t size, reader_.Number(8, what));
      tensor.shape.push_back(size);
    }
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t type, reader_.Number(4, what));
    tensor.type_number = static_cast<uint32_t>(type);
    tensor.type = FindGgmlType(tensor.type_number);
    ENGRAM_ASSIGN_OR_RETURN(tensor.offset, reader_.Number(8, what));
    ENGRAM_RETURN_IF_ERROR(CountBytes(tensor, what));
    header_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status CountBytes(GgufTensor& tensor, const std::string& what) const {
    // A product of 0 must not hide a size that can't be.
    unsigned __int128 values = 1, bound = 1;
    for (const uint64_t size : tensor.shape) {
      values *= size;
      bound *= std::max<uint64_t>(size, 1);
      if (bound > INT64_MAX) {
        return Damaged(absl::StrCat(what, " has a shape that can't be: ", Describe(tensor)));
      }
    }
    if (tensor.type == nullptr) return absl::OkStatus();
    if (tensor.RowValues() % tensor.type->block_values != 0) {
      return Damaged(absl::StrCat(what, " is ", Describe(tensor), ": a row of ", tensor.RowValues(),
                                  " values has no whole number of blocks of ",
                                  tensor.type->block_values));
    }
    const unsigned __int128 bytes = values / tensor.type->block_values * tensor.type->block_bytes;
    if (bytes > INT64_MAX) {
      return Damaged(absl::StrCat(what, " has a shape that can't be: ", Describe(tensor)));
    }
    tensor.bytes = static_cast<uint64_t>(bytes);
    return absl::OkStatus();
  }

  // Makes offsets those of the file, and checks them.
  absl::Status PlaceTensors() {
    const uint64_t file_bytes = reader_.file_bytes();
    const uint64_t data_bytes = file_bytes - std::min(header_.header_bytes, file_bytes);
    std::vector<const GgufTensor*> order;
    for (GgufTensor& tensor : header_.tensors) {
      const std::string what = absl::StrCat("the tensor ", QuoteForMessage(tensor.name));
      if (tensor.offset % alignment_ != 0) {
        return Damaged(absl::StrCat(what, " begins at byte ", tensor.offset,
                                    " of the data, which is no multiple of the alignment ",
                                    alignment_));
      }
      if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
        return absl::DataLossError(absl::StrCat(
            path_, " is cut off: ", what, " has ", tensor.bytes, " bytes from byte ", tensor.offset,
            " of the data on, the file holds ", data_bytes, " bytes of data; download it again"));
      }
      tensor.offset += header_.header_bytes;
      order.push_back(&tensor);
    }
    std::stable_sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
      return a->offset < b->offset;
    });
    return CheckApart(order);
  }

  absl::Status CheckApart(const std::vector<const GgufTensor*>& order) {
    uint64_t end = header_.header_bytes;
    const GgufTensor* before = nullptr;
    for (const GgufTensor* tensor : order) {
      // At least one byte, where nobody knows how many.
      const uint64_t bytes = tensor->type == nullptr ? 1 : tensor->bytes;
      if (before != nullptr && bytes > 0 && tensor->offset < end) {
        return Damaged(absl::StrCat("the tensors ", QuoteForMessage(before->name), " (bytes ",
                                    before->offset, "..", end - 1, ") and ",
                                    QuoteForMessage(tensor->name), " (from byte ", tensor->offset,
                                    " on) overlap"));
      }
      // Where a type is not known, neither is what is left over behind it.
      if (before == nullptr || before->type != nullptr) AddStray(end, tensor->offset);
      if (bytes == 0) continue;
      before = tensor;
      end = tensor->offset + bytes;
    }
    if (before == nullptr || before->type != nullptr) AddStray(end, reader_.file_bytes());
    return absl::OkStatus();
  }

  void AddStray(uint64_t begin, uint64_t end) {
    if (end > begin && end - begin >= alignment_ && header_.stray.size() < kMaxStray) {
      header_.stray.push_back({begin, end});
    }
  }

  const std::string& path_;
  const WantedGgufKey& wanted_;
  GgufByteReader reader_;
  GgufHeader header_;
  uint64_t alignment_ = kDefaultAlignment;
  uint64_t kept_bytes_ = 0;
  std::set<std::string> keys_, names_;
};

// What stands in the place of a large file in a clone that was made without Git LFS.
absl::Status CheckNoLfsPointer(const FileDescriptor& file, uint64_t file_bytes,
                               const std::string& path) {
  std::string begin(std::min<uint64_t>(file_bytes, kLfsPointer.size()), '\0');
  ENGRAM_RETURN_IF_ERROR(ReadFully(
      file, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(begin.data()), begin.size()), path));
  if (begin != kLfsPointer) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      path, " is a Git LFS pointer, not the file itself: run `git lfs pull`, or download it"));
}

}  // namespace

uint64_t GgufTensor::Rows() const {
  uint64_t rows = 1;
  for (size_t i = 1; i < shape.size(); ++i) rows *= shape[i];
  return rows;
}

std::string Describe(const GgufTensor& tensor) {
  return absl::StrCat(tensor.type == nullptr ? absl::StrCat("type ", tensor.type_number)
                                             : absl::AsciiStrToUpper(tensor.type->name),
                      " [", absl::StrJoin(tensor.shape.rbegin(), tensor.shape.rend(), ", "), "]");
}

absl::StatusOr<GgufHeader> ReadGgufHeader(const std::string& path, const WantedGgufKey& wanted) {
  ENGRAM_ASSIGN_OR_RETURN(FileDescriptor file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t file_bytes, RegularFileBytes(file, path));
  ENGRAM_ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(file, path));
  ENGRAM_RETURN_IF_ERROR(CheckNoLfsPointer(file, file_bytes, path));
  ENGRAM_ASSIGN_OR_RETURN(
      GgufHeader header,
      HeaderReader(path, wanted, GgufByteReader(std::move(file), file_bytes, path)).Read());
  header.as_read = stamp;
  return header;
}

}  // namespace engram
