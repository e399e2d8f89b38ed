#include "gpu/prefetch/dequantize_on_arrival.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// What the copies of one PlaceRows share.
struct Shared {
  std::vector<Dequantizer> dequantizers;  // a layer
  // The kernel's word for an inverse that names no row: the prefetcher's own are right, so nobody
  // reads it.
  DeviceBuffer bad_rows;
};

}  // namespace

absl::StatusOr<RowPlacing> DequantizeOnArrival(const Manifest& manifest, Device& device,
                                               ScaleReading reading) {
  auto shared = std::make_shared<Shared>();
  for (const LayerTableSpec& layer : manifest.layers) {
    absl::StatusOr<Dequantizer> dequantizer = Dequantizer::Create(layer.encoding, reading);
    if (!dequantizer.ok()) return dequantizer.status();
    if (!shared->dequantizers.empty() && shared->dequantizers[0].dim() != dequantizer->dim()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rows of layer ", layer.layer, " have ", dequantizer->dim(), " values, those of layer ",
          manifest.layers[0].layer, " ", shared->dequantizers[0].dim()));
    }
    shared->dequantizers.push_back(*std::move(dequantizer));
  }
  absl::StatusOr<DeviceBuffer> word = device.Allocate(MemoryKind::kPinnedHost, sizeof(uint32_t));
  if (!word.ok()) return word.status();
  shared->bad_rows = *std::move(word);
  const uint32_t placed_row_bytes = shared->dequantizers[0].placed_row_bytes();
  return RowPlacing{.place_rows =
                        [shared](const Arrival& arrival, Stream& side) {
                          return shared->dequantizers[arrival.layer_index].Enqueue(
                              {.rows = arrival.rows,
                               .row_count = arrival.row_count,
                               .inverse = arrival.inverse,
                               .tokens = arrival.tokens,
                               .columns = arrival.columns,
                               .out = reinterpret_cast<uint16_t*>(arrival.placed),
                               .bad_rows = shared->bad_rows.as<uint32_t>()},
                              side);
                        },
                    .placed_row_bytes = placed_row_bytes};
}

}  // namespace engram
