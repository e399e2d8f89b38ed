#include "client/transport/shm/mapped_gather.h"

#include "memstore/gather/gather_tuning.h"

namespace engram {

void CalibrateMapped(absl::Span<LoadedLayer> layers, absl::Span<const HeldLayer> held,
                     const Clock& clock) {
  for (LoadedLayer& first : layers) {
    const uint32_t row_bytes = first.table.row_bytes;
    if (first.table.ahead_rows != 0) continue;  // its width is done
    GatherTable largest = first.table;
    largest.rows = 0;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].table.row_bytes != row_bytes) continue;
      const GatherTable resident =
          held.empty() ? layers[i].table : LongestHeld(layers[i].table, held[i]);
      if (resident.rows > largest.rows) largest = resident;
    }
    if (largest.rows == 0) continue;  // nothing of the width is gathered
    const uint32_t ahead_rows = CalibrateGather(largest, clock).ahead_rows;
    for (LoadedLayer& layer : layers) {
      if (layer.table.row_bytes == row_bytes) layer.table.ahead_rows = ahead_rows;
    }
  }
}

}  // namespace engram
