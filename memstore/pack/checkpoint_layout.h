// Which tensors of a checkpoint hold a family's rows, and how: every name, dtype and shape checked.
//
// Stateless. Reads nothing but scalar scales, and asks the file system for holes. Errors name
// tensor and file, what was found and what was expected: NOT_FOUND for a tensor that is missing,
// FAILED_PRECONDITION for one that does not fit, or where two could be meant.
#pragma once

#include <cstdint>
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

struct CheckpointLayer {
  RowEncoding encoding;
  uint32_t weight_bytes = 0;  // of a row
  uint32_t scale_bytes = 0;   // of a row; 0: it has none of its own
  // All of the table's rows, in their order; they point into the checkpoint.
  std::vector<RowRun> weights;
  std::vector<RowRun> scales;  // empty: none
};

// Tells the tensors of the family's tables, of whatever layer.
WantedTensor TableTensors(const Family& family);

// What was taken otherwise than by its letter is said to `note`, which may be empty.
absl::StatusOr<CheckpointLayer> LayOutLayer(const Family& family, const LayerAddressing& layer,
                                            const Checkpoint& checkpoint, const NoteFunction& note);

// Says to `note` what makes the files of a layer's rows look damaged, though their headers do not:
// holes in rows, bytes that belong to no tensor. A file in `files`, which were looked at before, is
// passed over for the latter.
void WarnOfOddBytes(const Checkpoint& checkpoint, const CheckpointLayer& layer,
                    const NoteFunction& note, std::set<std::string>& files);

}  // namespace engram
