#include "gpu/simulator/models.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace engram::simulator {
namespace {

constexpr char kRawIds[] = "qwen4-exp";  // one layer, in the second block; no token map is needed
constexpr char kV41[] = "deepseek-v4.1-flash";
// The paper's workload.
constexpr uint32_t kPaperSequences = 512;
constexpr uint32_t kChunkTokens = 2048;

constexpr Model kModels[] = {
    {.name = "small",
     .shape = {.hidden = 96, .blocks = 12, .query = 96, .key_value = 96, .feed_forward = 256},
     .family = kRawIds,
     .sequences = 64,
     .chunk_tokens = 128},
    {.name = "4b",
     .shape =
         {.hidden = 2560, .blocks = 36, .query = 4096, .key_value = 1024, .feed_forward = 9728},
     .family = kRawIds,
     .sequences = kPaperSequences,
     .chunk_tokens = kChunkTokens},
    {.name = "8b",
     .shape =
         {.hidden = 4096, .blocks = 36, .query = 4096, .key_value = 1024, .feed_forward = 12288},
     .family = kRawIds,
     .sequences = kPaperSequences,
     .chunk_tokens = kChunkTokens},
    {.name = "v41",
     .shape =
         {.hidden = 5120, .blocks = 40, .query = 5120, .key_value = 1024, .feed_forward = 13824},
     .branches = 4,
     .family = kV41,
     .sequences = kPaperSequences,
     .chunk_tokens = kChunkTokens},
};

// A step on one core of a processor, which computes some 10 GFLOP/s so.
constexpr double kHostStepFlops = 4e9;
constexpr uint32_t kLeastWidth = 16;

uint32_t Divided(uint32_t width, uint32_t divisor) {
  return std::max(kLeastWidth, width / divisor);
}

}  // namespace

uint64_t BackboneShape::BlockWeights() const {
  return uint64_t{hidden} * (query + 2 * key_value) + uint64_t{query} * hidden +
         uint64_t{3} * hidden * feed_forward;
}

BackboneShape BackboneShape::Narrowed(uint32_t divisor) const {
  if (divisor <= 1) return *this;
  return {.hidden = Divided(hidden, divisor),
          .blocks = blocks,
          .query = Divided(query, divisor),
          .key_value = Divided(key_value, divisor),
          .feed_forward = Divided(feed_forward, divisor)};
}

std::vector<std::string> ModelNames() {
  std::vector<std::string> names;
  for (const Model& model : kModels) names.emplace_back(model.name);
  return names;
}

absl::StatusOr<Model> FindModel(absl::string_view name) {
  for (const Model& model : kModels) {
    if (model.name == name) return model;
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no model \"", name, "\"; there are ",
                                                 absl::StrJoin(ModelNames(), ", ")));
}

uint32_t HostDivisor(const BackboneShape& shape, uint32_t tokens) {
  uint32_t divisor = 1;
  while (shape.Narrowed(divisor).StepFlops(tokens) > kHostStepFlops &&
         shape.hidden / divisor > kLeastWidth) {
    divisor *= 2;
  }
  return divisor;
}

}  // namespace engram::simulator
