// /statusz: what an engramd is at, on one page that needs nothing from elsewhere. Stateless.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/admin/history.h"
#include "server/config/config.h"
#include "server/metrics/metrics.h"
#include "server/metrics/snapshot.h"

namespace engram {

// HTML. Values that others chose (names, paths) are escaped.
std::string MakeStatusPage(const ServerSnapshot& snapshot, const MetricSums& sums,
                           absl::Span<const HistoryPoint> history,
                           absl::Span<const EffectiveField> configuration);

}  // namespace engram
