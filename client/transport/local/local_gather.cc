#include "client/transport/local/local_gather.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// About 200 us of gathering between two looks at the clock, which cost 50 ns.
constexpr size_t kRowsALook = 4096;

const GatherTable* FindTable(absl::Span<const LoadedLayer> layers, uint32_t layer) {
  for (const LoadedLayer& loaded : layers) {
    if (loaded.layer == layer) return &loaded.table;
  }
  return nullptr;
}

}  // namespace

absl::Status GatherLocally(const BatchRequest& batch, absl::Span<const LoadedLayer> layers,
                           const Clock& clock) {
  size_t since_look = 0;
  for (const LayerRequest& request : batch.layers) {
    const GatherTable* const table = FindTable(layers, request.layer);
    if (table == nullptr) {
      return absl::InternalError(absl::StrCat("layer ", request.layer, " has no table"));
    }
    const size_t rows = request.row_ids.size();
    for (size_t first = 0; first < rows;) {
      if (since_look >= kRowsALook) {
        if (batch.deadline <= clock.Now()) {
          return absl::DeadlineExceededError(absl::StrCat("the deadline passed while layer ",
                                                          request.layer, " was gathered, at row ",
                                                          first, " of ", rows));
        }
        since_look = 0;
      }
      const size_t count = std::min(rows - first, kRowsALook - since_look);
      GatherRange<RowId>(*table, request.row_ids, first, count, request.landing);
      first += count;
      since_look += count;
    }
  }
  return absl::OkStatus();
}

}  // namespace engram
