#include "tests/sim/batch_record.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram::sim {
namespace {

// Most are a decode step's; a few stand for a prefill's, whose rows are not all drawn.
constexpr double kPrefills = 0.03;
constexpr uint64_t kPrefillTimes = 512;

uint64_t RowOf(uint32_t serial, uint32_t set, RowId id) {
  return uint64_t{serial} << 32 | uint64_t{set & 0xFF} << 24 | ((id + 1) & 0xFFFFFF);
}

}  // namespace

void BatchRecord::Draw(const MapOfSet& of_set, const AddressScheme& scheme, Draws& draws) {
  map = of_set.map;
  const uint32_t columns = scheme.Columns();
  const uint64_t tokens = draws.Chance(0.6) ? 1 : 2 + draws.Below(3);
  const ColumnSlice all = ColumnSlice::All(columns);
  std::array<SplitRequest, kLayers> requests;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const LayerAddressing& addressing = scheme.layers[layer];
    ids[layer].clear();
    for (uint64_t i = 0; i < tokens * columns; ++i) {
      const uint64_t column = i % columns;
      ids[layer].push_back(addressing.offsets[column] + draws.Below(addressing.moduli[column]));
    }
    memory[layer].assign(ids[layer].size(), 0);
    requests[layer] = {.layer_index = layer,
                       .row_bytes = kRowBytes,
                       .row_ids = ids[layer],
                       .slice = &all,
                       .landing = {.data = reinterpret_cast<std::byte*>(memory[layer].data())}};
  }
  const absl::Status status = of_set.splitter->Split(requests, SplitStyle::kPlaces, &split);
  ENGRAM_CHECK(status.ok(), "a batch that cannot be split");
  const uint64_t times = draws.Chance(kPrefills) ? 1 + draws.Below(kPrefillTimes) : 1;
  parts.assign(split.parts().begin(), split.parts().end());
  for (SplitPart& part : parts) part.bytes *= times;
  records.assign(parts.size(), PartRecord());
  more.clear();
}

void BatchRecord::SplitAgain(uint32_t number, const MapOfSet& of_set,
                             absl::FunctionRef<bool(uint32_t layer)> is_missing) {
  std::array<SplitRequest, kLayers> requests;
  PartRecord& record = records[number];
  record.just_given = 0;
  uint64_t rows = 0;
  for (const PartLayer& layer : parts[number].layers) {
    rows += layer.rows;
    if (!is_missing(layer.request)) continue;
    record.just_given |= 1u << layer.request;
    requests[layer.request] = {.layer_index = layer.request,
                               .row_bytes = kRowBytes,
                               .row_ids = layer.row_ids,
                               .slice = layer.slice,
                               .landing = layer.landing};
  }
  record.given_away |= record.just_given;
  more.push_back(std::make_unique<BatchSplit>());
  const absl::Status status =
      of_set.splitter->Split(requests, SplitStyle::kPlaces, more.back().get());
  ENGRAM_CHECK(status.ok(), "a part that cannot be split");
  const uint64_t times = parts[number].bytes / (rows * kRowBytes);
  for (SplitPart part : more.back()->parts()) {
    part.bytes *= times;
    parts.push_back(part);
    records.emplace_back();
  }
}

void BatchRecord::ForgetSplit(uint32_t number, uint32_t first) {
  records[number].given_away &= ~records[number].just_given;
  parts.resize(first);
  records.resize(first);
  more.pop_back();
}

const PartLayer* BatchRecord::LayerOf(uint32_t part, uint32_t layer) const {
  if ((records[part].given_away >> layer & 1) != 0) return nullptr;
  for (const PartLayer& of_part : parts[part].layers) {
    if (of_part.request == layer) return &of_part;
  }
  return nullptr;
}

void BatchRecord::Write(const Flight& flight, uint32_t layer, uint64_t first_share,
                        uint64_t end_share) {
  const PartLayer* const to = LayerOf(flight.part, layer);
  if (to == nullptr) return;
  const uint64_t end = to->rows * end_share / kShares;
  for (uint64_t i = to->rows * first_share / kShares; i < end; ++i) {
    const uint64_t row = RowOf(flight.serial, flight.answered_set, to->row_ids[i]);
    std::memcpy(to->landing.PlaceOf(i, kRowBytes), &row, kRowBytes);
  }
}

std::string BatchRecord::Check(uint32_t set, Invariant* broken) const {
  for (uint32_t part = 0; part < parts.size(); ++part) {
    for (const PartLayer& layer : parts[part].layers) {
      if (LayerOf(part, layer.request) == nullptr) continue;
      const uint32_t serial = records[part].landed_by[layer.request];
      for (uint64_t i = 0; i < layer.rows; ++i) {
        uint64_t row = 0;
        std::memcpy(&row, layer.landing.PlaceOf(i, kRowBytes), kRowBytes);
        if (row == RowOf(serial, set, layer.row_ids[i])) continue;
        *broken = row >> 32 == serial ? Invariant::kOneSet : Invariant::kLanding;
        return absl::StrCat("part ", part, ", layer ", layer.request, ", row ", i, ": flight ",
                            row >> 32, " of set ", row >> 24 & 0xFF, " wrote it, and flight ",
                            serial, " of set ", set, " landed it");
      }
    }
  }
  return "";
}

}  // namespace engram::sim
