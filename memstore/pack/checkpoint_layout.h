// Which tensors of a checkpoint hold a family's rows, and how: every name, dtype and shape checked.
//
// Stateless. Reads nothing but scalar scales, and asks the file system for holes. Errors name
// tensor and file, what was found and what was expected: NOT_FOUND for a tensor that is missing,
// FAILED_PRECONDITION for one that does not fit, or where two could be meant.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"
#include "memstore/pack/pack_options.h"
#include "memstore/pack/row_runs.h"
#include "memstore/safetensors/checkpoint.h"
#include "memstore/table/manifest.h"

namespace engram {

// What each row takes from one tensor, whole or in pieces.
struct LayerPart {
  uint32_t row_bytes = 0;
  // All of the table's rows, in their order; they point into the checkpoint.
  std::vector<RowRun> runs;
};

struct CheckpointLayer {
  RowEncoding encoding;
  std::vector<LayerPart> parts;  // in the order of a row's bytes; at least one

  uint32_t RowBytes() const;
};

// A tensor's place, or the places of its parts in the files of ranks.
using Places = std::vector<const TensorPlace*>;

// The tensors of one kind of one table, by the number of their piece; 0 where there are none.
struct TensorsOfTable {
  std::string stem;  // the whole name down to the table
  std::string form;  // what follows, with "{piece}" for the piece's number
  bool in_pieces = false;
  std::map<uint32_t, Places> pieces;
};
// The rows of a table in `pieces`, all from 0 on; each tensor is [rows, ...], all of one width.
absl::StatusOr<std::vector<RowRun>> LayRows(const Family& family, const LayerAddressing& layer,
                                            const TensorsOfTable& table,
                                            const std::vector<Places>& pieces, PaddingFill fill,
                                            const NoteFunction& note);
// The scale of the whole table: one tensor of one value, or one a piece or a rank, all alike.
absl::StatusOr<float> ReadGlobalScale(const TensorsOfTable& scales);

// Tells the tensors of the family's tables, of whatever layer.
WantedTensor TableTensors(const Family& family);

// What was taken otherwise than by its letter is said to `note`, which may be empty.
absl::StatusOr<CheckpointLayer> LayOutLayer(const Family& family, const LayerAddressing& layer,
                                            const Checkpoint& checkpoint, const NoteFunction& note);

// Says to `note` what makes the files of a layer's rows look damaged, though their headers do not:
// holes in rows, bytes that belong to no tensor (`stray`, by path). A file in `files`, which were
// looked at before, is passed over for the latter.
void WarnOfOddBytes(const std::map<std::string, std::vector<ByteRange>>& stray,
                    const CheckpointLayer& layer, const NoteFunction& note,
                    std::set<std::string>& files);

}  // namespace engram
