// What lies in a checkpoint's directory, and what is odd about a file of it: a link that leads
// nowhere, an unfinished download, holes, a name that promises a digest.
//
// Stateless, thread-safe. Looks at names and at what the file system says of them; reads no more
// than a few bytes of a file, but for ReadCheckpointText.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/safetensors/header.h"

namespace engram {

inline constexpr char kIndexFile[] = "model.safetensors.index.json";
// A hole that is smaller may be what a file system made of a row of zeros.
inline constexpr uint64_t kMinHoleBytes = 1u << 20;

// OK when `path` is a directory with an index or with safetensors files. Otherwise it says what it
// is and what to give: INVALID_ARGUMENT for a file of a checkpoint, GGUF, or another format;
// NOT_FOUND where there is nothing.
absl::Status CheckCheckpointDirectory(const std::string& path);

// The names of the *.safetensors files in it, links included, in order. Hidden ones are left out:
// they are what other systems put beside a file.
absl::StatusOr<std::vector<std::string>> ListSafetensors(const std::string& directory);

// Of files that are numbered NAME-00001-of-00005.safetensors: those of the row that are not in
// `names`, at most a few of them.
std::vector<std::string> MissingOfSeries(const std::vector<std::string>& names);

// Where `path` is a link to something that is not there: a status that says so. OK for all else.
absl::Status CheckLinkLeadsSomewhere(const std::string& path);

// ReadWholeFile, but a link that leads nowhere is FAILED_PRECONDITION: the file is not absent. A
// file whose name gives its digest (BlobOf) is compared with it: DATA_LOSS where it differs.
absl::StatusOr<std::string> ReadCheckpointText(const std::string& path, uint64_t max_bytes);

// FAILED_PRECONDITION names the control file that a downloader keeps beside a file until it is
// whole, beside `path` or beside what it links to.
absl::Status CheckDownloadFinished(const std::string& path);

// In a cache of Hugging Face's a file is named by its digest (blob_hash.h), and the checkpoint
// links to it: that digest, and the file. Absent for every other file.
struct Blob {
  std::string path;
  std::string digest;  // in lower-case digits, however the name spells it
};
std::optional<Blob> BlobOf(const std::string& path);

// DATA_LOSS where the digest that was `found` (in lower-case digits; empty: none was) is not that
// of the name.
absl::Status CheckBlobDigest(const Blob& blob, absl::string_view found);

// The parts of `range`, at least kMinHoleBytes long, that were never written, as far as the file
// system tells: at most `most`, ascending.
std::vector<ByteRange> FindHoles(const std::string& path, const ByteRange& range, size_t most);

}  // namespace engram
