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
  if (state == LifeState::kLoading && loading && loading->progress.bytes_total > 0) {
    absl::StrAppend(&why, " ", loading->directory, ": ",
                    loading->progress.bytes_done * 100 / loading->progress.bytes_total, " %");
  }
  return why;
}

}  // namespace engram
