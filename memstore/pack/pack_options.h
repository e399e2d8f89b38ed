// What packing takes, whatever the rows come from.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/token_map.h"
#include "memstore/base/wall_clock.h"
#include "memstore/os/ordered_work.h"
#include "memstore/pack/output/table_set_writer.h"

namespace engram {

// Called with a whole line that the user should read, by one thread, while nothing is written.
using NoteFunction = std::function<void(const std::string& line)>;

// A token map's bytes, and what they are, for messages.
struct MadeMap {
  std::string bytes;
  std::string source;
};

struct PackOptions {
  std::string output;            // a directory that is not there yet, in one that is
  std::string name;              // empty: the family's
  uint64_t rows_per_head = 0;    // 0: the family's
  std::vector<uint32_t> layers;  // empty: the family's
  std::string token_map_file;    // where the family needs one
  // In place of a file: what was made of the checkpoint's tokenizer.
  std::optional<MadeMap> made_token_map;
  // Of a checkpoint alone: which of a model's end tokens ends a window, and whether the constants
  // that its tensors hold are taken in place of those that the recipe makes.
  std::optional<uint32_t> reset_token_id;
  bool use_stored_constants = false;
  // Of a checkpoint: tensors that are the rows, in place of the family's own (named_rows.h); of a
  // GGUF the same. What the rows so made are called: needed with `rows`.
  std::vector<std::string> rows;
  std::string encoding;
  std::string gguf_file;  // PackGguf's; any part of a model that is split
  // What the rows are of, for people: "OWNER/NAME@REVISION", say. Empty: what the path tells.
  std::string source;
  // When it is packed, for people.
  std::function<absl::Time()> wall_now = WallNow;
  // Of a checkpoint alone: the set links to its rows, which stay where they are (linked_rows.h).
  bool link = false;
  TableSetWriterOptions writer;  // its on_note is on_note below
  ProgressFunction on_progress;  // in bytes of rows
  NoteFunction on_note;          // may be empty
};

// Of --source: the names of repositories, revisions and whole addresses are far shorter.
inline constexpr size_t kMaxSourceBytes = 1000;

// What can be said of `options` before anything is read or written: the output is a name for a new
// directory, the name a plain one, the source's name printable, no token map is given where the
// family has none.
// INVALID_ARGUMENT says what is wrong and what to give.
absl::Status CheckPackOptions(const Family& family, const PackOptions& options);
// Whether the family's token map is there, where it needs one: a checkpoint may bring its own, made
// up rows do not. INVALID_ARGUMENT says what to give.
absl::Status CheckTokenMapGiven(const Family& family, const PackOptions& options);

// The address scheme that `options` ask of `family`, and its token map, read and checked (absent
// where the family has none). Errors of CheckPackOptions, CheckTokenMapGiven, Derive and
// TokenMap::Load.
struct PackScheme {
  AddressScheme scheme;
  std::optional<TokenMap> token_map;
};
absl::StatusOr<PackScheme> MakePackScheme(const Family& family, const PackOptions& options);

// The rows of one layer to be packed.
struct LayerRows {
  LayerTableSpec spec;  // without shards
  RowFillFactory rows;
};
// A side file of the set (memstore/table/side_files.h).
struct SideFileText {
  std::string name;
  std::string kind;
  std::string body;
};
// The name that the set gets.
std::string SetName(const Family& family, const PackOptions& options);
// Writes the set. `layers` in the order of the scheme. When all rows are written `may_publish` is
// asked: an error of its keeps the set from appearing, and is returned.
absl::StatusOr<Manifest> WriteTableSet(const Family& family, const PackOptions& options,
                                       const PackScheme& scheme,
                                       const std::vector<LayerRows>& layers,
                                       const std::function<absl::Status()>& may_publish,
                                       const std::vector<SideFileText>& side_files = {});

}  // namespace engram
