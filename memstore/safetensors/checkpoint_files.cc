#include "memstore/safetensors/checkpoint_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/safetensors/blob_hash.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kSafetensors = ".safetensors";
// What downloaders add to a file's name, of the file itself or of their notes, until it is whole:
// aria2, Hugging Face's, wget2 and curl wrappers, browsers.
constexpr const char* kControlSuffixes[] = {".aria2", ".incomplete", ".part", ".crdownload",
                                            ".download"};
constexpr absl::string_view kPyTorchSuffixes[] = {".bin", ".pt", ".pth"};
// A message that lists more is not read.
constexpr size_t kMaxListed = 3;
// More files than any checkpoint has: bounds what a series' number asks for.
constexpr uint32_t kMaxSeries = 100'000;
// A file of very many holes is looked at so often and no more: it costs a second at most.
constexpr int kMaxHoleLooks = 100'000;

bool Exists(const std::string& path) {
  struct stat stat;
  return lstat(path.c_str(), &stat) == 0;
}

bool IsGguf(const std::string& path) {
  const absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  char magic[4] = {};
  return file.ok() && pread(file->get(), magic, sizeof(magic), 0) == sizeof(magic) &&
         absl::string_view(magic, sizeof(magic)) == "GGUF";
}

absl::StatusOr<std::vector<std::string>> ListNames(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename());
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", directory));
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status SayGguf(absl::string_view what, const std::string& file) {
  return absl::InvalidArgumentError(absl::StrCat(
      what,
      ": --checkpoint (or --link) takes the directory of a safetensors checkpoint; give GGUF "
      "with --gguf ",
      file));
}

absl::Status SayWhatFileItIs(const std::string& path) {
  if (IsGguf(path)) return SayGguf(absl::StrCat(path, " is a GGUF file"), path);
  const std::string name = fs::path(path).filename();
  const fs::path folder = fs::path(path).parent_path();
  const std::string parent = folder.empty() ? std::string(".") : folder.string();
  if (absl::EndsWith(name, kSafetensors) || absl::EndsWith(name, ".json")) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is one file of a checkpoint: give its directory, --checkpoint ",
                     parent, "; which of its files hold the table is found there"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path,
                   " is a file: --checkpoint (or --link) takes the directory of a safetensors "
                   "checkpoint"));
}

bool HasSuffixOf(const std::string& name, absl::Span<const absl::string_view> suffixes) {
  for (const absl::string_view suffix : suffixes) {
    if (absl::EndsWith(name, suffix)) return true;
  }
  return false;
}

absl::Status SayWhatDirectoryItIs(const std::string& path, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (absl::EndsWithIgnoreCase(name, ".gguf") || IsGguf(JoinPath(path, name))) {
      return SayGguf(absl::StrCat(path, " holds GGUF (", name, ") and no safetensors"),
                     JoinPath(path, name));
    }
  }
  for (const std::string& name : names) {
    if (!HasSuffixOf(name, kPyTorchSuffixes)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, " holds files of PyTorch (", name,
                     ") and no safetensors: download the model's safetensors, or save it so"));
  }
  if (std::binary_search(names.begin(), names.end(), "snapshots")) {
    const absl::StatusOr<std::vector<std::string>> revisions =
        ListNames(JoinPath(path, "snapshots"));
    if (revisions.ok() && !revisions->empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path,
                       " is a model in a cache of Hugging Face's: give the directory of a "
                       "revision, --checkpoint ",
                       path, "/snapshots/", revisions->front(),
                       revisions->size() > 1 ? " or another one there" : ""));
    }
  }
  std::string unfinished;
  for (const std::string& name : names) {
    if (absl::EndsWith(name, ".incomplete"))
      unfinished = absl::StrCat(" (", name, " is unfinished)");
  }
  return absl::NotFoundError(absl::StrCat("there is no checkpoint at ", path, ": it holds neither ",
                                          kIndexFile, " nor any *.safetensors file", unfinished));
}

// "model-", 3, 5 of "model-00003-of-00005.safetensors".
struct Numbered {
  std::string stem, width;
  uint32_t number = 0, of = 0;
};
std::optional<Numbered> ParseNumbered(absl::string_view name) {
  if (!absl::ConsumeSuffix(&name, kSafetensors)) return std::nullopt;
  const size_t of = name.rfind("-of-");
  if (of == absl::string_view::npos) return std::nullopt;
  Numbered out;
  const absl::string_view before = name.substr(0, of), after = name.substr(of + 4);
  size_t digits = before.size();
  while (digits > 0 && absl::ascii_isdigit(before[digits - 1])) --digits;
  out.width = std::string(before.substr(digits));
  out.stem = std::string(before.substr(0, digits));
  if (!absl::SimpleAtoi(out.width, &out.number) || !absl::SimpleAtoi(after, &out.of) ||
      out.of > kMaxSeries || after.size() != out.width.size()) {
    return std::nullopt;
  }
  return out;
}

std::string PadTo(size_t width, uint32_t number) {
  const std::string digits = absl::StrCat(number);
  return digits.size() < width ? std::string(width - digits.size(), '0') + digits : digits;
}

// Of a text that is there whole.
std::string DigestOf(const Blob& blob, absl::string_view text) {
  BlobHash hash(blob.digest, text.size());
  hash.Update(text);
  return hash.FinishHex();
}

}  // namespace

absl::Status CheckCheckpointDirectory(const std::string& path) {
  ENGRAM_RETURN_IF_ERROR(CheckLinkLeadsSomewhere(path));
  struct stat stat;
  if (::stat(path.c_str(), &stat) != 0) {
    if (errno != ENOENT) return PosixError("look at", path);
    return absl::NotFoundError(
        absl::StrCat("there is no checkpoint at ", path, ": nothing is there"));
  }
  if (!S_ISDIR(stat.st_mode)) return SayWhatFileItIs(path);
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(path));
  for (const std::string& name : names) {
    if (name == kIndexFile || (absl::EndsWith(name, kSafetensors) && name[0] != '.')) {
      return absl::OkStatus();
    }
  }
  return SayWhatDirectoryItIs(path, names);
}

absl::StatusOr<std::vector<std::string>> ListSafetensors(const std::string& directory) {
  ENGRAM_ASSIGN_OR_RETURN(std::vector<std::string> names, ListNames(directory));
  std::erase_if(names, [](const std::string& name) {
    return name[0] == '.' || !absl::EndsWith(name, kSafetensors);
  });
  return names;
}

std::vector<std::string> MissingOfSeries(const std::vector<std::string>& names) {
  const std::set<std::string> there(names.begin(), names.end());
  std::set<std::string> missing;
  std::set<std::pair<std::string, uint32_t>> seen;
  for (const std::string& name : names) {
    const std::optional<Numbered> numbered = ParseNumbered(name);
    if (!numbered || !seen.emplace(numbered->stem, numbered->of).second) continue;
    const size_t width = numbered->width.size();
    for (uint32_t i = 1; i <= numbered->of && missing.size() < kMaxListed; ++i) {
      const std::string other = absl::StrCat(numbered->stem, PadTo(width, i), "-of-",
                                             PadTo(width, numbered->of), kSafetensors);
      if (there.count(other) == 0) missing.insert(other);
    }
  }
  return {missing.begin(), missing.end()};
}

absl::Status CheckLinkLeadsSomewhere(const std::string& path) {
  struct stat stat;
  if (lstat(path.c_str(), &stat) != 0 || !S_ISLNK(stat.st_mode) ||
      ::stat(path.c_str(), &stat) == 0 || (errno != ENOENT && errno != ENOTDIR)) {
    return absl::OkStatus();
  }
  std::error_code ignored;
  const fs::path target = fs::read_symlink(path, ignored);
  const fs::path place = (fs::path(path).parent_path() / target).lexically_normal();
  const bool in_cache = absl::StrContains(target.string(), "blobs");
  return absl::FailedPreconditionError(absl::StrCat(
      QuotePathForMessage(path), " is a link to ", QuotePathForMessage(target.string()),
      ", and that is not there: ",
      in_cache ? "mount or copy the directory of blobs too, and not the snapshots alone"
               : "mount or copy what it leads to",
      " (", QuotePathForMessage(place.string()), ")"));
}

absl::StatusOr<std::string> ReadCheckpointText(const std::string& path, uint64_t max_bytes) {
  ENGRAM_RETURN_IF_ERROR(CheckLinkLeadsSomewhere(path));
  absl::StatusOr<std::string> text = ReadWholeFile(path, max_bytes);
  if (!text.ok()) return text;
  if (const std::optional<Blob> blob = BlobOf(path)) {
    ENGRAM_RETURN_IF_ERROR(CheckBlobDigest(*blob, DigestOf(*blob, *text)));
  }
  return text;
}

absl::Status CheckDownloadFinished(const std::string& path) {
  std::vector<std::string> places = {path};
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  if (!error && target != path) places.push_back(target);
  for (const std::string& place : places) {
    for (const char* suffix : kControlSuffixes) {
      const std::string control = place + suffix;
      if (!Exists(control)) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          path, " may be an unfinished download: beside it lies ", control,
          ", which its downloader keeps until the file is whole; let it finish, or remove ",
          control, " if it is left over from a download that ended"));
    }
  }
  return absl::OkStatus();
}

std::optional<Blob> BlobOf(const std::string& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return std::nullopt;
  const fs::path target = fs::canonical(path, error);
  if (error || target.parent_path().filename() != "blobs" ||
      !IsBlobDigest(target.filename().string())) {
    return std::nullopt;
  }
  return Blob{target, absl::AsciiStrToLower(target.filename().string())};
}

absl::Status CheckBlobDigest(const Blob& blob, absl::string_view found) {
  if (found.empty() || found == blob.digest) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      blob.path, " is damaged: its name says that its ", BlobDigestName(blob.digest), " is ",
      blob.digest, ", but it is ", found, "; remove it and download it again"));
}

std::vector<ByteRange> FindHoles(const std::string& path, const ByteRange& range, size_t most) {
  std::vector<ByteRange> holes;
  const absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!file.ok()) return holes;
  uint64_t at = range.begin;
  for (int look = 0; look < kMaxHoleLooks && at < range.end && holes.size() < most; ++look) {
    const off_t hole = lseek(file->get(), static_cast<off_t>(at), SEEK_HOLE);
    if (hole < 0 || static_cast<uint64_t>(hole) >= range.end) break;
    const off_t data = lseek(file->get(), hole, SEEK_DATA);
    // ENXIO: the rest of the file is one hole.
    const uint64_t end =
        data < 0 ? range.end : std::min<uint64_t>(static_cast<uint64_t>(data), range.end);
    if (data < 0 && errno != ENXIO) break;
    if (end - static_cast<uint64_t>(hole) >= kMinHoleBytes) {
      holes.push_back({static_cast<uint64_t>(hole), end});
    }
    at = std::max<uint64_t>(end, static_cast<uint64_t>(hole) + 1);
  }
  return holes;
}

}  // namespace engram
