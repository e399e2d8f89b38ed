#include "memstore/safetensors/checkpoint.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/human_units.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/ordered_work.h"
#include "memstore/os/posix_file.h"
#include "memstore/safetensors/json_walk.h"
#include "memstore/safetensors/rank_file.h"

namespace engram {
namespace {

// Of headers that are read at one time; a single one may be longer.
constexpr uint64_t kMaxHeadersInMemory = 64u << 20;

std::string Quoted(absl::string_view name) { return QuoteForMessage(name); }

// The headers of these files of the directory, in their order. Several at a time: of a large
// checkpoint they are hundreds of megabytes of text.
absl::StatusOr<std::vector<SafetensorsHeader>> ReadHeaders(const std::vector<std::string>& paths,
                                                           const WantedTensor& wanted) {
  uint64_t longest = 1;
  for (const std::string& path : paths) {
    ENGRAM_RETURN_IF_ERROR(CheckLinkLeadsSomewhere(path));
    ENGRAM_RETURN_IF_ERROR(CheckDownloadFinished(path));
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t bytes, SafetensorsHeaderBytes(path));
    longest = std::max(longest, bytes);
  }
  std::vector<SafetensorsHeader> headers(paths.size());
  const uint64_t at_once = std::clamp<uint64_t>(kMaxHeadersInMemory / longest, 1, kMaxTableThreads);
  const uint32_t threads = std::min<uint32_t>(at_once, ChooseTableThreads(0));
  ENGRAM_RETURN_IF_ERROR(DoInOrder(paths.size(), threads, [&]() -> Worker {
    return [&](uint64_t i) -> absl::Status {
      ENGRAM_ASSIGN_OR_RETURN(headers[i], ReadSafetensorsHeader(paths[i], wanted));
      return absl::OkStatus();
    };
  }));
  return headers;
}

// One digest over the headers of these files.
std::string DigestOf(const std::vector<std::string>& files,
                     const std::vector<SafetensorsHeader>& headers) {
  std::string text;
  for (size_t i = 0; i < files.size(); ++i) {
    absl::StrAppend(&text, files[i], " ", headers[i].sha256, "\n");
  }
  return Sha256Hex(text);
}

// Where the index says that `tensor` is. A NUL would end the name early, and another file be read;
// what else controls a terminal is in no file's name that was meant.
absl::Status CheckFileName(absl::string_view tensor, absl::string_view file) {
  if (absl::c_none_of(file, absl::ascii_iscntrl)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the file name of the tensor ", Quoted(tensor), ", \"", Quoted(file),
                   "\", has a control character: download the index again"));
}

using TensorsByFile = std::map<std::string, std::set<std::string>>;

// The wanted tensors of the index, by the file that it says they are in.
absl::StatusOr<TensorsByFile> ReadIndex(const std::string& path, absl::string_view text,
                                        const WantedTensor& wanted) {
  std::map<std::string, std::string> file_of;
  absl::Status status = WalkJson(text, [&](const JsonPath& at, const JsonValue& value) {
    if (at.size() != 2 || at[0] != "weight_map" || !wanted(at[1])) return absl::OkStatus();
    if (value.text == nullptr || value.text->empty() || absl::StrContains(*value.text, '/')) {
      return absl::InvalidArgumentError(
          absl::StrCat("the tensor ", Quoted(at[1]), " has no plain file name"));
    }
    ENGRAM_RETURN_IF_ERROR(CheckFileName(at[1], *value.text));
    const auto [it, is_new] = file_of.emplace(at[1], *value.text);
    if (is_new && file_of.size() <= kMaxWantedTensors) return absl::OkStatus();
    if (is_new) return absl::InvalidArgumentError("it cuts a table into too many tensors");
    return absl::InvalidArgumentError(
        it->second == *value.text
            ? absl::StrCat("it holds the tensor ", Quoted(at[1]), " twice, both times in ",
                           Quoted(it->second),
                           ": remove one of the entries, or download the "
                           "index again")
            : absl::StrCat("it holds the tensor ", Quoted(at[1]), " twice, in ", Quoted(it->second),
                           " and in ", Quoted(*value.text),
                           ", and which of them is meant can't be told: remove the wrong entry, "
                           "or download the index again"));
  });
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the index ", path, ": ", status.message()));
  }
  TensorsByFile files;
  for (const auto& [tensor, file] : file_of) files[file].insert(tensor);
  return files;
}

// One name in several files: the parts of a tensor-parallel export in the order of their ranks;
// FAILED_PRECONDITION where they are anything else.
absl::Status SortRanks(std::vector<TensorPlace>& places) {
  std::map<uint32_t, TensorPlace> by_rank;
  std::string group;
  for (const TensorPlace& place : places) {
    const std::string name = place.file.substr(place.file.rfind('/') + 1);
    const std::optional<RankFile> file = ParseRankFile(name);
    const bool fits = file && (group.empty() || file->group == group);
    if (fits) group = file->group;
    if (fits && by_rank.emplace(file->rank, place).second) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the tensor ", Quoted(place.name), " is in two files, ", places[0].file,
                     " and ", places[1].file,
                     ", and there is no index that says which of them is meant: remove the "
                     "wrong file, or download ",
                     kIndexFile));
  }
  places.clear();
  for (auto& [rank, place] : by_rank) {
    const uint32_t expected = by_rank.begin()->first + places.size();
    if (rank != expected) {
      return absl::NotFoundError(absl::StrCat(
          "the tensor ", Quoted(place.name), " is in files of ranks, as ", place.file,
          ", and that of rank ", expected, " is missing: copy it from where the others are from"));
    }
    places.push_back(std::move(place));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory,
                                            const WantedTensor& wanted) {
  ENGRAM_RETURN_IF_ERROR(CheckCheckpointDirectory(directory));
  Checkpoint checkpoint(directory);
  const std::string index_path = JoinPath(directory, kIndexFile);
  const absl::StatusOr<std::string> index = ReadCheckpointText(index_path, kMaxHeaderBytes);
  if (index.ok()) {
    ENGRAM_RETURN_IF_ERROR(checkpoint.OpenByIndex(index_path, *index, wanted));
    return checkpoint;
  }
  if (!absl::IsNotFound(index.status())) return index.status();
  ENGRAM_RETURN_IF_ERROR(checkpoint.OpenAll(wanted));
  return checkpoint;
}

absl::Status Checkpoint::OpenByIndex(const std::string& index_path, absl::string_view text,
                                     const WantedTensor& wanted) {
  index_path_ = index_path;
  index_sha256_ = Sha256Hex(text);
  ENGRAM_ASSIGN_OR_RETURN(const TensorsByFile files, ReadIndex(index_path, text, wanted));
  std::vector<std::string> paths;
  std::set<std::string> expected;
  for (const auto& [file, names] : files) {
    files_.push_back(file);
    paths.push_back(JoinPath(directory_, file));
    expected.insert(names.begin(), names.end());
    absl::Status link = CheckLinkLeadsSomewhere(paths.back());
    if (!link.ok()) return link;
    if (SafetensorsHeaderBytes(paths.back()).status().code() != absl::StatusCode::kNotFound)
      continue;
    const std::set<std::string>& lost = names;
    const std::string elsewhere = FindElsewhere(
        [&](absl::string_view name) { return lost.count(std::string(name)) > 0; }, {file});
    return absl::NotFoundError(absl::StrCat(
        Quoted(paths.back()), ", which holds the tensor ", Quoted(*names.begin()),
        names.size() > 1 ? absl::StrCat(" and ", names.size() - 1, " more of the table") : "",
        " by the index, is missing: ",
        elsewhere.empty()
            ? std::string("download it")
            : absl::StrCat(elsewhere, ": the index ", index_path,
                           " is of other files; download the one that belongs to these, or remove "
                           "it: without an index the headers of all files are read")));
  }
  // A copy in a file that the index does not name for it is no concern: it is left out.
  ENGRAM_ASSIGN_OR_RETURN(std::vector<SafetensorsHeader> headers,
                          ReadHeaders(paths, [&](absl::string_view name) {
                            return expected.count(std::string(name)) > 0;
                          }));
  headers_sha256_ = DigestOf(files_, headers);
  for (size_t i = 0; i < paths.size(); ++i) {
    for (const std::string& name : files.at(files_[i])) {
      const auto it = headers[i].tensors.find(name);
      if (it == headers[i].tensors.end()) {
        const std::string elsewhere =
            FindElsewhere([&](absl::string_view other) { return other == name; }, {files_[i]});
        return absl::NotFoundError(
            absl::StrCat(paths[i], " does not hold the tensor ", Quoted(name), ", which the index ",
                         index_path, " says it does: index and file are of different downloads",
                         elsewhere.empty() ? "" : absl::StrCat("; ", elsewhere)));
      }
      tensors_.emplace(name, std::move(it->second));
    }
    stray_.emplace(paths[i], std::move(headers[i].stray));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::OpenAll(const WantedTensor& wanted) {
  ENGRAM_ASSIGN_OR_RETURN(files_, ListSafetensors(directory_));
  std::vector<std::string> paths;
  for (const std::string& file : files_) paths.push_back(JoinPath(directory_, file));
  ENGRAM_ASSIGN_OR_RETURN(std::vector<SafetensorsHeader> headers, ReadHeaders(paths, wanted));
  headers_sha256_ = DigestOf(files_, headers);
  std::map<std::string, std::vector<TensorPlace>> places;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (headers[i].tensors.empty()) continue;
    stray_.emplace(paths[i], std::move(headers[i].stray));
    for (auto& [name, place] : headers[i].tensors) places[name].push_back(std::move(place));
  }
  for (auto& [name, found] : places) {
    if (found.size() == 1) {
      tensors_.emplace(name, std::move(found[0]));
      continue;
    }
    ENGRAM_RETURN_IF_ERROR(SortRanks(found));
    rank_parts_.emplace(name, std::move(found));
  }
  return absl::OkStatus();
}

std::string Checkpoint::FindElsewhere(const WantedTensor& wanted,
                                      const std::vector<std::string>& but) const {
  const absl::StatusOr<std::vector<std::string>> names = ListSafetensors(directory_);
  if (!names.ok()) return "";
  for (const std::string& file : *names) {
    if (std::find(but.begin(), but.end(), file) != but.end()) continue;
    const std::string path = JoinPath(directory_, file);
    // It is for a message: a file that can't be read holds nothing.
    const absl::StatusOr<SafetensorsHeader> header = ReadSafetensorsHeader(path, wanted);
    if (!header.ok() || header->tensors.empty()) continue;
    return absl::StrCat(path, " holds the tensor ", Quoted(header->tensors.begin()->first));
  }
  return "";
}

absl::StatusOr<const TensorPlace*> Checkpoint::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it != tensors_.end()) return &it->second;
  return absl::NotFoundError(absl::StrCat("the checkpoint ", directory_, " lacks the tensor ", name,
                                          ": is it a checkpoint of this family?"));
}

std::string Checkpoint::WhatWasRead(const WantedTensor& wanted) const {
  if (index_path_.empty()) {
    const std::vector<std::string> missing = MissingOfSeries(files_);
    return absl::StrCat("there is no ", kIndexFile, ", and the headers of ",
                        Counted(files_.size(), "file"), " were read",
                        missing.empty() ? "" : "; by their numbers there are missing ",
                        absl::StrJoin(missing, ", "));
  }
  const std::string elsewhere = FindElsewhere(wanted, files_);
  return absl::StrCat(
      "the index ", index_path_, " names ", Counted(files_.size(), "file"), " of such tensors",
      elsewhere.empty() ? ""
                        : absl::StrCat("; ", elsewhere,
                                       ", which the index does not name: if it belongs to the "
                                       "model, remove the index, and the headers of all files are "
                                       "read"));
}

}  // namespace engram
