#include "server/metrics/snapshot.h"

#include "absl/strings/str_cat.h"

namespace engram {

std::string ServerSnapshot::WhyNotReady() const {
  for (const TableSetStatus& set : table_sets) {
    if (set.is_missed()) {
      return absl::StrCat("table set ", set.name, " ", set.id,
                          " is fenced: its memory was found to be damaged; publish it or another "
                          "set of its name, or start engramd again");
    }
  }
  if (state == LifeState::kServing) return {};
  std::string why(Name(state));
  if (state != LifeState::kLoading || !loading || loading->progress.bytes_total == 0) return why;
  const LoadProgress& progress = loading->progress;
  if (start_loads) {
    absl::StrAppend(&why, " set ", start_loads->number, " of ", start_loads->sets, ",");
  }
  absl::StrAppend(&why, " ", loading->directory, ": ",
                  progress.bytes_done * 100 / progress.bytes_total, " %");
  if (start_loads && start_loads->bytes_total > 0) {
    absl::StrAppend(
        &why, ", ",
        (start_loads->bytes_before + progress.bytes_done) * 100 / start_loads->bytes_total,
        " % of all");
  }
  return why;
}

}  // namespace engram
