// /statusz: what an engramd is at, on one page that needs nothing but its script. Stateless.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/admin/history.h"
#include "server/config/config.h"
#include "server/metrics/metrics.h"
#include "server/metrics/snapshot.h"

namespace engram {

// HTML. Values that others chose (names, paths, what a client said) are escaped.
std::string MakeStatusPage(const ServerSnapshot& snapshot, const MetricSums& sums,
                           absl::Span<const HistoryPoint> history,
                           absl::Span<const EffectiveField> configuration);

// /statusz.js: replaces the page's contents with new ones, ten seconds after the last.
absl::string_view StatusPageScript();

}  // namespace engram
