// The token map of a checkpoint's own tokenizer, and what is known of its family's.
//
// Stateless. Reads one file.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/tokenizer/make_token_map.h"

namespace engram {

// Where a checkpoint in `directory` has its tokenizer.
std::string TokenizerPath(const std::string& directory);

// From that file. FAILED_PRECONDITION when there is none; whatever is wrong, the message says how
// else `family` gets its map.
absl::StatusOr<MadeTokenMap> MakeCheckpointTokenMap(const Family& family,
                                                    const std::string& directory);

// Whether `map` can be that of a model of `family` of which no other source says how many
// compressed ids it has. The family's known map is, and that of another vocabulary. What is close
// to a known one is FAILED_PRECONDITION, for the number enters every row's address: of the known
// length with other entries, longer with the known beginning (tokens were added), or another
// family's.
absl::Status CheckVocabulary(const MadeTokenMap& map, const Family& family,
                             const std::string& source);

}  // namespace engram
