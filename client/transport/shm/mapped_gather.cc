#include "client/transport/shm/mapped_gather.h"

#include "memstore/gather/gather_tuning.h"

namespace engram {

void CalibrateMapped(absl::Span<LoadedLayer> layers, const Clock& clock) {
  for (LoadedLayer& first : layers) {
    const uint32_t row_bytes = first.table.row_bytes;
    if (first.table.ahead_rows != 0) continue;  // its width is done
    const GatherTable* largest = &first.table;
    for (const LoadedLayer& layer : layers) {
      if (layer.table.row_bytes == row_bytes && layer.table.rows > largest->rows) {
        largest = &layer.table;
      }
    }
    const uint32_t ahead_rows = CalibrateGather(*largest, clock).ahead_rows;
    for (LoadedLayer& layer : layers) {
      if (layer.table.row_bytes == row_bytes) layer.table.ahead_rows = ahead_rows;
    }
  }
}

}  // namespace engram
