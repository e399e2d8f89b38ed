// Which tensors of a checkpoint hold a family's rows, and how: every name, dtype and shape checked.
//
// Stateless. Reads nothing but a scalar scale. Errors name tensor and file, what was found and what
// was expected: NOT_FOUND for a tensor that is missing, FAILED_PRECONDITION for one that does not
// fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"
#include "memstore/pack/safetensors.h"
#include "memstore/table/manifest.h"

namespace engram {

// A run of the layer's rows in one tensor, from the tensor's first row on.
struct RowPiece {
  const TensorPlace* weight = nullptr;  // [at least rows, dim]
  const TensorPlace* scale = nullptr;   // [as many, dim / 32], or null
  RowId first_row = 0;
  uint64_t rows = 0;
};

struct CheckpointLayer {
  RowEncoding encoding;
  uint32_t weight_bytes = 0;     // of a row
  uint32_t scale_bytes = 0;      // of a row; 0: it has none of its own
  std::vector<RowPiece> pieces;  // in the order of their rows; they point into the checkpoint
};

// Tells the tensors that hold rows of `scheme`'s layers.
WantedTensor TableTensors(const Family& family, const AddressScheme& scheme);

absl::StatusOr<CheckpointLayer> LayOutLayer(const Family& family, const LayerAddressing& layer,
                                            const Checkpoint& checkpoint);

}  // namespace engram
