// The PlaceRows of models that read bf16: rows are dequantised, un-permuted and placed by one
// kernel as they arrive, on the prefetcher's side stream.
//
//   auto place = engram::DequantizeOnArrival(client->table_set(), *device);
//   auto prefetcher = engram::Prefetcher::Create(client->transport(), *device,
//       {.max_tokens = 512, .distinct = true, .place_rows = place->place_rows,
//        .placed_row_bytes = place->placed_row_bytes});
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "gpu/device/device.h"
#include "gpu/kernels/dequantize.h"
#include "gpu/prefetch/prefetcher.h"
#include "memstore/table/manifest.h"

namespace engram {

struct RowPlacing {
  PlaceRows place_rows;
  uint32_t placed_row_bytes = 0;
};

// `device` outlives what place_rows enqueues. INVALID_ARGUMENT: Dequantizer::Create's, or layers
// whose rows have different numbers of values. RESOURCE_EXHAUSTED: memory.
absl::StatusOr<RowPlacing> DequantizeOnArrival(const Manifest& manifest, Device& device,
                                               ScaleReading reading = ScaleReading::kFormat);

}  // namespace engram
