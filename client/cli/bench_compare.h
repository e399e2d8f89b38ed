// Several paths to one table set, measured in turns, so that a noisy machine is noisy for all.
//
// Each of kCompareTurns turns, or of fewer where fewer batches are asked for, gives every path its
// part of the time, in one order and then in the other; medians over the turns are what counts. The
// first path is the ceiling that the others are measured against: ratios are taken a turn at a
// time, of neighbours in time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cli/bench_run.h"
#include "client/client.h"

namespace engram::cli {

// Odd, so that a median is a turn that was; few, so that a turn is long beside its warm-up.
inline constexpr size_t kCompareTurns = 5;

struct BenchPath {
  std::string name;
  std::vector<std::shared_ptr<Client>> clients;
};

struct ComparedResult {
  BenchResult median;  // of each number over the turns; rounds are all of them
  double ratio_rows_per_s = 1;
  double ratio_p50 = 1;
};

// INVALID_ARGUMENT when the paths do not serve one and the same table set.
absl::Status CheckSameSet(absl::Span<const BenchPath> paths);

// One result a path, in their order; the paths have one set. `setting` has the time, or the
// batches, of all turns of a path together. The first error of RunBench, with the path's name.
absl::StatusOr<std::vector<ComparedResult>> RunCompared(absl::Span<const BenchPath> paths,
                                                        const BenchTokens& tokens,
                                                        const BenchSetting& setting);

}  // namespace engram::cli
