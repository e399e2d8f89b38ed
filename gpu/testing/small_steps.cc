#include "gpu/testing/small_steps.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/table/synthetic.h"

namespace engram::testing {
namespace {

constexpr uint64_t kRowsPerHead = 500;
constexpr uint32_t kLongestSequence = 40;

}  // namespace

std::string SmallV41Directory() {
  static const std::string directory = [] {
    std::string path = absl::StrCat(::testing::TempDir(), "/small-v41-", getpid());
    std::filesystem::remove_all(path);
    PackOptions options;
    options.output = path;
    options.rows_per_head = kRowsPerHead;
    options.token_map_file = "tests/golden/deepseek_v41_token_map.i32";
    const absl::StatusOr<Manifest> packed =
        PackSynthetic(*FindFamily("deepseek-v4.1-flash").value(), options);
    EXPECT_TRUE(packed.ok()) << packed.status();
    return path;
  }();
  return directory;
}

std::shared_ptr<const TableSet> SmallV41() {
  static const std::shared_ptr<const TableSet> set =
      TableSet::Load(SmallV41Directory(), {}).value();
  return set;
}

bool SmallStep::RowsAreExact(size_t index, const std::byte* rows) const {
  const LayerTableSpec& layer = SmallV41()->manifest().layers[index];
  for (size_t i = 0; i < row_ids[index].size(); ++i) {
    const absl::Span<const std::byte> row(rows + i * layer.row_bytes, layer.row_bytes);
    if (!IsSyntheticRow(layer.layer, row_ids[index][i], row)) return false;
  }
  return true;
}

SmallStep RandomStep(uint32_t max_tokens, std::mt19937& random) {
  const Addresser& addresser = SmallV41()->addresser();
  const AddressScheme& scheme = addresser.scheme();
  const auto below = [&random](uint32_t end) { return static_cast<uint32_t>(random() % end); };
  SmallStep step;
  const uint32_t tokens = 1 + below(max_tokens);
  step.token_ids.resize(tokens);
  for (int32_t& id : step.token_ids) id = below(scheme.vocab_size);
  if (below(2) == 0) {
    step.dead.resize(tokens);
    for (uint8_t& dead : step.dead) dead = below(10) == 0;
  }
  step.row_ids.assign(scheme.layers.size(), std::vector<RowId>(size_t{tokens} * scheme.Columns()));
  for (uint32_t first = 0; first < tokens;) {
    SequenceTokens sequence{.state = Addresser::Start(),
                            .tokens = std::min(tokens - first, 1 + below(kLongestSequence))};
    const std::vector<int32_t> history = {7, static_cast<int32_t>(below(1000)), 9};
    if (below(3) != 0) {
      EXPECT_TRUE(addresser.Advance(history, {}, &sequence.state).ok());
    }
    std::vector<LayerRowIdsOutput> outputs;
    for (uint32_t i = 0; i < scheme.layers.size(); ++i) {
      outputs.push_back({.layer_index = i,
                         .rows = &step.row_ids[i][size_t{first} * scheme.Columns()],
                         .token_stride = scheme.Columns()});
    }
    absl::Span<const uint8_t> dead = step.dead;
    if (!dead.empty()) dead = dead.subspan(first, sequence.tokens);
    const auto ids = absl::MakeConstSpan(step.token_ids).subspan(first, sequence.tokens);
    EXPECT_TRUE(addresser.Address(sequence.state, ids, dead, outputs).ok());
    first += sequence.tokens;
    step.sequences.push_back(sequence);
  }
  return step;
}

}  // namespace engram::testing
