#include "gpu/testing/small_steps.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/head_slice.h"
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

std::vector<RowId> SmallStep::SliceIds(size_t index, const ColumnSlice* slice) const {
  const std::vector<RowId>& all = row_ids[index];
  if (slice == nullptr) return all;
  std::vector<RowId> ids;
  for (size_t token = 0; token < tokens(); ++token) {
    for (uint32_t c = 0; c < slice->columns(); ++c) {
      ids.push_back(all[token * slice->layer_columns() + slice->LayerColumn(c)]);
    }
  }
  return ids;
}

// Allocates nothing: tests count allocations while layers look at their rows.
bool SmallStep::RowsAreExact(size_t index, const std::byte* rows, const ColumnSlice* slice) const {
  const LayerTableSpec& layer = SmallV41()->manifest().layers[index];
  const uint32_t layer_columns = SmallV41()->manifest().scheme.Columns();
  const uint32_t columns = slice == nullptr ? layer_columns : slice->columns();
  for (size_t token = 0; token < row_ids[index].size() / layer_columns; ++token) {
    const RowId* const ids = &row_ids[index][token * layer_columns];
    for (uint32_t c = 0; c < columns; ++c, rows += layer.row_bytes) {
      const RowId id = ids[slice == nullptr ? c : slice->LayerColumn(c)];
      if (!IsSyntheticRow(layer.layer, id, {rows, layer.row_bytes})) return false;
    }
  }
  return true;
}

std::vector<NamedSlices> SmallSlices() {
  const AddressScheme& scheme = SmallV41()->manifest().scheme;
  const auto of = [](std::vector<ColumnRun> runs, std::optional<uint32_t> layer = {}) {
    return ColumnSlice::Create(runs, 24, layer).value();
  };
  const ColumnSlice rank = SliceOfHeads(scheme, 2, 2).value();
  const ColumnSlice last = SliceOfHeads(scheme, 7, 1).value();
  const ColumnSlice within = of({{3, 10}, {14, 1}, {21, 3}});
  const ColumnSlice of_layer_14 = of({{0, 5}, {9, 2}}, 14);
  const ColumnSlice all = ColumnSlice::All(24), none = of({}), run = of({{8, 8}}),
                    one = of({{23, 1}});
  return {{"a rank's heads", {rank, rank}},
          {"one head an order", {last, last}},
          {"one run", {run, run}},
          {"single columns", {one, one}},
          {"all", {all, all}},
          {"within orders", {within, of_layer_14}},
          {"none, then some", {none, rank}},
          {"some, then none", {within, none}},
          {"none", {none, none}}};
}

SmallStep RandomStep(uint32_t max_tokens, std::mt19937& random) {
  const Addresser& addresser = SmallV41()->addresser();
  const AddressScheme& scheme = addresser.scheme();
  const auto below = [&random](uint32_t end) { return static_cast<uint32_t>(random() % end); };
  SmallStep step;
  const uint32_t tokens = 1 + below(max_tokens);
  step.token_ids.resize(tokens);
  const absl::Span<const int32_t> images = addresser.image_token_ids();
  for (int32_t& id : step.token_ids) {
    id = below(scheme.vocab_size);
    // One that is not dead is refused.
    if (std::find(images.begin(), images.end(), id) != images.end()) id = 0;
  }
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
