// Tensors that are named to be rows as they are: codes and scales of any kind, joined row by row
// into opaque rows with the name of an encoding.
//
// A name is a tensor's whole name or its end, from a dot on: "engram.embed.weight_packed" means
// "model.layers.1.engram.embed.weight_packed". "{layer}" stands for a layer's number and "{piece}"
// for that of a piece, from 0 on, of a table that is cut; without "{layer}" the layer is the one
// that the tensor's name states ("layers.1.", "blk.1."). Thread-safe but for LearnTables; reads
// nothing but the scale of a whole table.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/pack_options.h"
#include "memstore/safetensors/header.h"

namespace engram {

// More tensors are joined by nobody.
inline constexpr size_t kMaxNamedTensors = 8;

// Tensors, wherever they lie.
struct TensorSource {
  std::string what;  // for messages: "the checkpoint DIR"
  std::map<std::string, Places> tensors;
  // What was looked at, for the message of a tensor that is not there.
  std::function<std::string(const WantedTensor&)> looked_at;
};
TensorSource SourceOf(const Checkpoint& checkpoint);

class RowNames {
 public:
  // What a name finds in a tensor's.
  struct Hit {
    std::string before;  // of the tensor's name, in front of what was named
    std::optional<uint32_t> layer, piece;
  };

  // INVALID_ARGUMENT says what is wrong with a name; `flag` is where it was given.
  static absl::StatusOr<RowNames> Parse(const std::vector<std::string>& names,
                                        absl::string_view flag);

  const std::vector<std::string>& names() const { return names_; }
  const std::string& flag() const { return flag_; }
  std::optional<Hit> Find(size_t name, absl::string_view tensor) const;
  // Whether a tensor is meant by one of the names, or lies under the same table as one that is.
  bool Means(absl::string_view tensor) const;
  bool IsBeside(absl::string_view tensor) const;
  // A name without a dot does not tell its table: the tensors that it means do, and until they are
  // learned nothing lies beside it.
  bool TellTables() const;
  void LearnTables(const TensorSource& source);

 private:
  std::vector<std::string> names_;
  std::vector<std::string> stems_;  // of the names, down to the table; empty: not told
  // What stands before the tensors of names that do not tell.
  std::set<std::string, std::less<>> learned_;
  std::string flag_;
};

// The rows of `layer` of `scheme`. A tensor of one value is the scale of the whole table and goes
// into the encoding. NOT_FOUND: nothing has the name. FAILED_PRECONDITION: two tensors have it, a
// table of a layer that the scheme does not have, other numbers of rows, rows that are too narrow
// or too wide, as in manifest.h. Tensors beside the named ones are said to `note`.
absl::StatusOr<CheckpointLayer> LayOutNamedRows(const RowNames& names, const std::string& encoding,
                                                const Family& family, const AddressScheme& scheme,
                                                const LayerAddressing& layer,
                                                const TensorSource& source,
                                                const NoteFunction& note);

}  // namespace engram
