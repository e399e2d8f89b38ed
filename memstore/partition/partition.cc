#include "memstore/partition/partition.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

uint64_t End(const ColumnRun& run) { return uint64_t{run.first_column} + run.columns; }
uint64_t End(const RowRange& range) { return range.first + range.rows; }

// Digits alone, without a sign or blanks.
bool ParseNumber(absl::string_view text, uint32_t* number) {
  return !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, number);
}

// Runs that ascend; those that touch become one.
std::vector<ColumnRun> Joined(const std::vector<ColumnRun>& runs) {
  std::vector<ColumnRun> joined;
  for (const ColumnRun& run : runs) {
    if (run.columns == 0) continue;
    if (!joined.empty() && End(joined.back()) == run.first_column) {
      joined.back().columns += run.columns;
    } else {
      joined.push_back(run);
    }
  }
  return joined;
}

std::vector<ColumnRun> Joined(std::vector<uint32_t> columns) {
  std::sort(columns.begin(), columns.end());
  std::vector<ColumnRun> runs;
  runs.reserve(columns.size());
  for (const uint32_t column : columns) runs.push_back({column, 1});
  return Joined(runs);
}

absl::Status WrongItem(absl::string_view item) {
  return absl::InvalidArgumentError(
      absl::StrCat(QuoteForMessage(item), " does not say what is held: write LAYER:FIRST-LAST or ",
                   "LAYER:COLUMN, with columns from 0 to ", kMaxPartitions - 1, ", FIRST to LAST"));
}

// "LAYER:FIRST-LAST" or "LAYER:COLUMN".
absl::StatusOr<HeldColumns> ParseItem(absl::string_view item) {
  const size_t colon = item.find(':');
  if (colon == absl::string_view::npos) return WrongItem(item);
  const absl::string_view columns = item.substr(colon + 1);
  const size_t dash = columns.find('-');
  uint32_t layer = 0;
  uint32_t first = 0;
  uint32_t last = 0;
  if (!ParseNumber(item.substr(0, colon), &layer) ||
      !ParseNumber(columns.substr(0, dash), &first) ||
      !ParseNumber(dash == absl::string_view::npos ? columns : columns.substr(dash + 1), &last) ||
      first > last || last >= kMaxPartitions) {
    return WrongItem(item);
  }
  return HeldColumns{.layer = layer, .runs = {{first, last - first + 1}}};
}

HeldColumns* Find(std::vector<HeldColumns>& columns, uint32_t layer) {
  const auto found = std::find_if(columns.begin(), columns.end(),
                                  [&](const HeldColumns& one) { return one.layer == layer; });
  return found == columns.end() ? nullptr : &*found;
}

absl::Status SortRuns(HeldColumns& columns) {
  std::sort(columns.runs.begin(), columns.runs.end(),
            [](const ColumnRun& a, const ColumnRun& b) { return a.first_column < b.first_column; });
  for (size_t i = 1; i < columns.runs.size(); ++i) {
    if (columns.runs[i].first_column < End(columns.runs[i - 1])) {
      return absl::InvalidArgumentError(
          absl::StrCat("column ", columns.runs[i].first_column, " of layer ", columns.layer,
                       " is named twice: columns of a layer may not overlap"));
    }
  }
  columns.runs = Joined(columns.runs);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PartitionIndex> ParsePartitionIndex(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  PartitionIndex partition;
  if (parts.size() != 2 || !ParseNumber(parts[0], &partition.index) ||
      !ParseNumber(parts[1], &partition.count)) {
    return absl::InvalidArgumentError(absl::StrCat(
        QuoteForMessage(text), " is no partition: write K/N, the K-th of N, as in 0/4"));
  }
  if (partition.count == 0 || partition.count > kMaxPartitions) {
    return absl::InvalidArgumentError(absl::StrCat(QuoteForMessage(text), " is one of ",
                                                   partition.count, " partitions: there are 1 to ",
                                                   kMaxPartitions));
  }
  if (partition.index >= partition.count) {
    return absl::InvalidArgumentError(
        absl::StrCat(QuoteForMessage(text), " is none of ", partition.count,
                     " partitions: they count from 0 to ", partition.count - 1));
  }
  return partition;
}

absl::StatusOr<std::vector<HeldColumns>> ParsePartitionColumns(absl::string_view text) {
  std::vector<HeldColumns> columns;
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    absl::StatusOr<HeldColumns> parsed = ParseItem(item);
    if (!parsed.ok()) return parsed.status();
    HeldColumns* const found = Find(columns, parsed->layer);
    if (found == nullptr) {
      columns.push_back(*std::move(parsed));
    } else {
      found->runs.push_back(parsed->runs[0]);
    }
  }
  for (HeldColumns& layer : columns) {
    if (absl::Status status = SortRuns(layer); !status.ok()) return status;
  }
  std::sort(columns.begin(), columns.end(),
            [](const HeldColumns& a, const HeldColumns& b) { return a.layer < b.layer; });
  return columns;
}

absl::StatusOr<std::vector<HeldColumns>> ColumnsOf(const PartitionIndex& partition,
                                                   const AddressScheme& scheme) {
  const uint64_t columns = scheme.Columns();
  if (partition.count == 0 || partition.index >= partition.count || partition.count > columns) {
    return absl::InvalidArgumentError(
        absl::StrCat("partition ", partition.index, "/", partition.count, " of layers of ", columns,
                     " columns: there are 1 to ", columns, " partitions, counted from 0"));
  }
  // Head by head, all orders of each: where the count divides the heads, these are whole heads.
  const uint32_t orders = scheme.max_order - 1;
  std::vector<uint32_t> held;
  for (uint64_t place = partition.index * columns / partition.count;
       place < (partition.index + uint64_t{1}) * columns / partition.count; ++place) {
    const auto head = static_cast<uint32_t>(place / orders);
    const auto order = static_cast<uint32_t>(place % orders);
    held.push_back(order * scheme.heads_per_order + head);
  }
  const std::vector<ColumnRun> runs = Joined(std::move(held));
  std::vector<HeldColumns> layers;
  layers.reserve(scheme.layers.size());
  for (const LayerAddressing& layer : scheme.layers) layers.push_back({layer.layer, runs});
  return layers;
}

absl::StatusOr<std::vector<HeldColumns>> ColumnsOf(absl::Span<const HeldColumns> columns,
                                                   const AddressScheme& scheme) {
  std::vector<HeldColumns> layers;
  layers.reserve(scheme.layers.size());
  for (const LayerAddressing& layer : scheme.layers) layers.push_back({layer.layer, {}});
  bool some = false;
  for (const HeldColumns& asked : columns) {
    HeldColumns* const layer = Find(layers, asked.layer);
    if (layer == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layer ", asked.layer, " is none of the table set's, which are ",
          absl::StrJoin(scheme.layers, ", ", [](std::string* out, const LayerAddressing& one) {
            absl::StrAppend(out, one.layer);
          })));
    }
    for (const ColumnRun& run : asked.runs) {
      if (End(run) > scheme.Columns()) {
        return absl::InvalidArgumentError(absl::StrCat("column ", End(run) - 1, " of layer ",
                                                       asked.layer, ": it has columns 0..",
                                                       scheme.Columns() - 1));
      }
      layer->runs.push_back(run);
      some |= run.columns != 0;
    }
  }
  if (!some) {
    return absl::InvalidArgumentError("no column is held: name those of a layer at least");
  }
  for (HeldColumns& layer : layers) {
    if (absl::Status status = SortRuns(layer); !status.ok()) return status;
  }
  return layers;
}

std::vector<HeldLayer> RowsOf(absl::Span<const HeldColumns> columns, const AddressScheme& scheme) {
  std::vector<HeldLayer> layers;
  for (size_t i = 0; i < columns.size(); ++i) {
    const LayerAddressing& addressing = scheme.layers[i];
    HeldLayer held{.table_rows = addressing.Rows(), .ranges = {}};
    for (const ColumnRun& run : columns[i].runs) {
      const uint64_t first = addressing.offsets[run.first_column];
      const size_t last = End(run) - 1;
      held.ranges.push_back({first, addressing.offsets[last] + addressing.moduli[last] - first});
    }
    layers.push_back(std::move(held));
  }
  return layers;
}

HeldColumns WholeColumnsIn(const HeldLayer& held, const LayerAddressing& addressing) {
  std::vector<uint32_t> columns;
  for (size_t c = 0; c < addressing.offsets.size(); ++c) {
    const uint64_t first = addressing.offsets[c];
    const uint64_t end = first + addressing.moduli[c];
    const bool whole = std::any_of(
        held.ranges.begin(), held.ranges.end(),
        [&](const RowRange& range) { return range.first <= first && end <= End(range); });
    if (whole) columns.push_back(static_cast<uint32_t>(c));
  }
  return {.layer = addressing.layer, .runs = Joined(std::move(columns))};
}

bool Holds(const HeldLayer& held, uint64_t row) {
  // The last range that begins at or before the row.
  const auto behind =
      std::upper_bound(held.ranges.begin(), held.ranges.end(), row,
                       [](uint64_t at, const RowRange& range) { return at < range.first; });
  return behind != held.ranges.begin() && row - behind[-1].first < behind[-1].rows;
}

uint64_t HeldRows(const HeldLayer& held) {
  uint64_t rows = 0;
  for (const RowRange& range : held.ranges) rows += range.rows;
  return rows;
}

std::string ToString(const HeldLayer& held) {
  if (held.ranges.empty()) return "none";
  return absl::StrJoin(held.ranges, ", ", [](std::string* out, const RowRange& range) {
    absl::StrAppend(out, "[", range.first, ", ", End(range), ")");
  });
}

std::string ToString(absl::Span<const HeldColumns> columns) {
  return absl::StrJoin(columns, "; ", [](std::string* out, const HeldColumns& layer) {
    absl::StrAppend(out, "layer ", layer.layer, layer.runs.empty() ? ": no columns" : ": columns ",
                    absl::StrJoin(layer.runs, ", ", [](std::string* text, const ColumnRun& run) {
                      absl::StrAppend(text, run.first_column, "..", End(run) - 1);
                    }));
  });
}

}  // namespace engram
