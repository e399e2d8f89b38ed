// The tensors of a checkpoint that hold constants of the address scheme, and tables that its recipe
// does not know.
//
// Stateless. Reads a few hundred bytes a tensor. Errors name the tensor, its file and both values.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"
#include "memstore/safetensors/checkpoint.h"

namespace engram {

// Tells the tensors that hold constants, of any layer. `family` outlives what is returned.
WantedTensor ConstantTensors(const Family& family);
// Tells the tables, of the family's kind, of layers and columns that `scheme` does not have.
WantedTensor OtherTables(const Family& family, const AddressScheme& scheme);

// FAILED_PRECONDITION for one of OtherTables: its rows would be left out.
absl::Status CheckNoOtherTables(const Family& family, const AddressScheme& scheme,
                                const Checkpoint& checkpoint);

// Compares each stored constant with what the recipe made of it or, with `take_stored`, puts it in
// the recipe's place. Returns the tensors' names.
absl::StatusOr<std::vector<std::string>> CompareStoredConstants(const Family& family,
                                                                const Checkpoint& checkpoint,
                                                                bool take_stored,
                                                                AddressScheme& scheme);

}  // namespace engram
