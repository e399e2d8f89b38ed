#include "memstore/gguf/model.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

constexpr char kPartKey[] = "split.no";  // counts from 0
constexpr char kPartsKey[] = "split.count";
constexpr char kTensorsKey[] = "split.tensors.count";
// Of a part's number in its name, which counts from 1.
constexpr size_t kDigits = 5;

bool IsSplitKey(absl::string_view key) {
  return key == kPartKey || key == kPartsKey || key == kTensorsKey;
}

std::optional<uint32_t> Number(absl::string_view text) {
  uint32_t number = 0;
  for (const char c : text) {
    if (!absl::ascii_isdigit(c)) return std::nullopt;
  }
  if (text.size() != kDigits || !absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

// The whole number of a key, where the header has it.
std::optional<int64_t> WholeNumber(const GgufHeader& header, const char* key) {
  const auto at = header.metadata.find(key);
  if (at == header.metadata.end() || at->second.kind != GgufValue::Kind::kWhole ||
      at->second.is_list) {
    return std::nullopt;
  }
  return at->second.numbers[0];
}

bool IsSame(const GgufValue& one, const GgufValue& other) {
  return one.kind == other.kind && one.numbers == other.numbers && one.reals == other.reals &&
         one.text == other.text;
}

}  // namespace

std::vector<std::string> GgufPartsOf(const std::string& path) {
  // "STEM-00002-of-00003.gguf"
  absl::string_view name = path;
  constexpr absl::string_view kOf = "-of-";
  if (!absl::ConsumeSuffix(&name, ".gguf")) return {path};
  constexpr size_t kTail = 1 + kDigits + kOf.size() + kDigits;
  if (name.size() < kTail) return {path};
  const absl::string_view stem = name.substr(0, name.size() - kTail);
  const absl::string_view tail = name.substr(stem.size());
  const std::optional<uint32_t> part = Number(tail.substr(1, kDigits));
  const std::optional<uint32_t> parts = Number(tail.substr(kTail - kDigits));
  if (tail[0] != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf || !part || !parts ||
      *part < 1 || *part > *parts || *parts > kMaxGgufParts) {
    return {path};
  }
  std::vector<std::string> paths;
  for (uint32_t i = 1; i <= *parts; ++i) {
    paths.push_back(absl::StrFormat("%s-%05d-of-%05d.gguf", stem, i, *parts));
  }
  return paths;
}

absl::StatusOr<GgufModel> GgufModel::Open(const std::string& path, const WantedGgufKey& wanted) {
  GgufModel model;
  const std::vector<std::string> paths = GgufPartsOf(path);
  for (size_t i = 0; i < paths.size(); ++i) {
    const absl::Status added = model.AddPart(paths[i], i, paths.size(), wanted);
    if (added.ok()) continue;
    if (!absl::IsNotFound(added) || paths[i] == path) return added;
    return absl::NotFoundError(absl::StrCat(added.message(), ": it is one of the ", paths.size(),
                                            " files that ", path,
                                            " is a part of; download it beside the others"));
  }
  return model;
}

absl::Status GgufModel::AddPart(const std::string& path, uint64_t part, uint64_t parts,
                                const WantedGgufKey& wanted) {
  ENGRAM_ASSIGN_OR_RETURN(GgufHeader header, ReadGgufHeader(path, [&](absl::string_view key) {
                            return IsSplitKey(key) || wanted(key);
                          }));
  const int64_t says_parts = WholeNumber(header, kPartsKey).value_or(static_cast<int64_t>(parts));
  const int64_t says_part = WholeNumber(header, kPartKey).value_or(static_cast<int64_t>(part));
  // A file that was never split may say 0 parts.
  if ((says_parts != static_cast<int64_t>(parts) && !(parts == 1 && says_parts == 0)) ||
      says_part != static_cast<int64_t>(part)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " says that it is part ", says_part, " (from 0) of ", says_parts,
        ", and by its name it is part ", part, " of ", parts,
        ": give it the name that it was published with, NAME-0000N-of-0000M.gguf, beside its "
        "other parts"));
  }
  const std::optional<int64_t> says_tensors = WholeNumber(header, kTensorsKey);
  for (auto& [key, value] : header.metadata) {
    if (IsSplitKey(key) && !wanted(key)) continue;
    const auto [at, is_new] = metadata_.emplace(key, GgufEntry{path, value});
    if (is_new || IsSame(at->second.value, value)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the key ", QuoteForMessage(key), " has one value in ", at->second.file,
                     " and another in ", path, ": the files are parts of different models"));
  }
  for (GgufTensor& tensor : header.tensors) {
    const auto [at, is_new] = tensors_.emplace(tensor.name, tensor);
    if (is_new) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the tensor ", QuoteForMessage(tensor.name), " is in two files, ",
                     at->second.file, " and ", path, ": they are parts of different models"));
  }
  files_.push_back({path, header.header_bytes, header.as_read});
  stray_.emplace(path, std::move(header.stray));
  const bool is_last = part + 1 == parts;
  if (!is_last || !says_tensors || *says_tensors == static_cast<int64_t>(tensors_.size())) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(path, " says that the model's files have ", *says_tensors,
                   " tensors together, and there are ", tensors_.size(),
                   ": they are parts of different models, or one is damaged"));
}

}  // namespace engram
