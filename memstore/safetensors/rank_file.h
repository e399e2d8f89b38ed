// Tells the files of an export that holds each rank's part of a tensor: one name, one file a rank.
//
// Stateless, thread-safe; looks at the name alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

struct RankFile {
  // The name without its rank and part: files of one group are of one export.
  std::string group;
  uint32_t rank = 0;
};

// Of names such as model-rank-3-part-0.safetensors, model3-mp8.safetensors, mp_rank_03.safetensors,
// model-tp3.safetensors, consolidated.03.safetensors. Absent for every other name.
std::optional<RankFile> ParseRankFile(absl::string_view name);

}  // namespace engram
