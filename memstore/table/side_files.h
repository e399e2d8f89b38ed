// The side files of a table set: which there are, what stands in them (proto/FORMATS.md, "Side
// files"), and their reading. The container of each is side_file.h's.
//
// Plain values and functions, stateless, thread-safe. They lie in the set's directory or in
// another one (--state-dir/ID); where both have one of a name, both are checked and the set's own
// counts. Links count in the set's own directory alone; in the other one they are checked and have
// no effect. One that is absent is no error. Memory: one file's body at a time, beside that of the
// links until TakeLinkedRows takes it.
// Errors are ReadSideFile's, and DATA_LOSS for a body that is not what its kind asks for; each
// names the file and says that it may be deleted. Text in a side file is another's, of bounded
// length and valid UTF-8, and otherwise anything: whoever shows it escapes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_file.h"

namespace engram {

inline constexpr char kProvenanceFile[] = "provenance.side";
inline constexpr char kImageTokenIdsFile[] = "image-token-ids.side";

inline constexpr char kProvenanceKind[] = "provenance";
inline constexpr char kImageTokenIdsKind[] = "image-token-ids";
inline constexpr char kLinksKind[] = "links";
inline constexpr char kPageChecksumsKind[] = "page-checksums";

// Paths are at most so long, and nothing else of a provenance is longer.
inline constexpr size_t kMaxProvenanceTextBytes = 4096;
// All its texts, each escaped, with room to spare for keys of later versions.
inline constexpr uint64_t kMaxProvenanceBytes = 256u << 10;
// Of files that rows were read from, the most that are listed: the largest checkpoints have some
// hundred, and so many still take less than half of kMaxProvenanceBytes.
inline constexpr size_t kMaxSourceFiles = 512;
// A model has a handful: image, video, audio, and their begins and ends.
inline constexpr size_t kMaxImageTokenIds = 1024;
inline constexpr uint64_t kMaxImageTokenIdsBytes = 64u << 10;
// A set of some hundred tables, each in some thousand pieces.
inline constexpr uint64_t kMaxLinksBytes = 64u << 20;
// Of a shard of 256 GiB, far beyond what is packed: a body is read whole.
inline constexpr uint64_t kMaxPageChecksumsBytes = 256u << 20;

// What a set was packed from. Later versions may know more kinds.
inline constexpr char kCheckpointSource[] = "checkpoint";
inline constexpr char kGgufSource[] = "gguf";
inline constexpr char kSyntheticSource[] = "synthetic";

// A file of the source that rows were read from.
struct SourceFile {
  std::string path;  // from the source's folder on
  uint64_t bytes = 0;
  uint64_t tensors = 0;          // of rows, in whole or in part
  std::vector<uint32_t> layers;  // whose rows they are, ascending
};
struct ReadFrom {
  std::vector<SourceFile> files;  // by their paths, ascending
  uint64_t left_out = 0;          // further ones, of which nothing is said
};

// Where a set's rows came from. For people: nothing is decided by it but warnings.
struct Provenance {
  std::string source_kind;        // one of the above
  std::string path;               // as it was given, made absolute; empty for synthetic rows
  std::string repository;         // OWNER/NAME, NAME or what --source said; empty: not known
  std::string revision;           // empty: not known
  std::string index_sha256;       // of the checkpoint's index; empty: it has none
  std::string headers_sha256;     // over the headers of the files that were read; empty: none were
  bool stored_constants = false;  // packed with --use-stored-constants
  std::string packer_version;
  absl::Time packed_at;  // to the second
  ReadFrom read_from{};  // no files: not known, or none were read
};

// Whether both are of one repository and revision or, where either does not know its repository,
// of one path and index.
bool SameSource(const Provenance& a, const Provenance& b);
// "OWNER/NAME@REVISION", else its path, else what it is; for a message: printable, of bounded
// length.
std::string SourceText(const Provenance& provenance);
// The same with all else that a line has room for: kind, path, time and packer.
std::string ProvenanceText(const Provenance& provenance);

struct SideFiles {
  std::optional<Provenance> provenance;
  std::vector<int32_t> image_token_ids;  // ascending, each once; empty: none are known
  bool page_checksums = false;           // every shard has its own
  // Of the set's own links, for TakeLinkedRows; none: it has its rows itself, or they were taken.
  std::optional<std::string> links_body;
};

// SHARDSTEM.page-checksums.side: the shard's file name with another ending.
std::string PageChecksumsFile(const ShardSpec& shard);
// The names that a set's side files may have, all of them.
std::vector<std::string> SideFileNames(const Manifest& manifest);

// Where --state-dir has side files of the set with this id; empty where there is no --state-dir.
std::string SideDirectory(const std::string& state_directory, const std::string& set_id);

// The bodies that hold this. Texts that are too long are cut, what is no UTF-8 in them is replaced:
// a path can be anything. Of the files that were read the first kMaxSourceFiles are kept, or as
// many of them as a body has room for, and the others are counted.
std::string ProvenanceBody(const Provenance& provenance);
// The time as the body has it: RFC 3339, UTC, to the second.
std::string FormatPackedAt(absl::Time time);
// Ids that are negative or more than kMaxImageTokenIds are our own mistake.
std::string ImageTokenIdsBody(std::vector<int32_t> ids);
// CRC32C (Crc32c) of each page of kShardPageBytes of the shard's file, its header's page first.
std::string PageChecksumsBody(absl::Span<const uint32_t> checksums);

// Every side file that is there, read and checked, page checksums too but for the pages themselves.
// `other_directory` may be empty, or one that is not there.
absl::StatusOr<SideFiles> LoadSideFiles(const std::string& directory,
                                        const std::string& other_directory,
                                        const Manifest& manifest);
// The same without the page checksums, which are large: for showing what is known of a set.
absl::StatusOr<SideFiles> LoadSmallSideFiles(const std::string& directory,
                                             const std::string& other_directory,
                                             const Manifest& manifest);

// The page checksums of one shard, from the first of the directories that has them;
// nothing where none has.
struct PageChecksums {
  std::string path;
  std::vector<uint32_t> pages;
};
absl::StatusOr<std::optional<PageChecksums>> LoadPageChecksums(const std::string& directory,
                                                               const std::string& other_directory,
                                                               const Manifest& manifest,
                                                               const ShardSpec& shard);

// DATA_LOSS: page `page` of the shard does not match its checksum, though its block matches its
// own: so the side file is wrong. Names both.
absl::Status PageDiffers(const PageChecksums& checksums, const ShardSpec& shard, uint64_t page);

}  // namespace engram
