#include "tests/soak/soak_batch.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "memstore/table/synthetic.h"

namespace engram::soak {
namespace {

// Before and behind each landing; more than a vector's width, the least that a loop writes too far.
constexpr size_t kGuardBytes = 128;
// Landings begin anywhere.
constexpr uint64_t kMostOffset = 64;
constexpr uint64_t kMostGap = 200;
constexpr uint64_t kMostGroup = 64;
// Rows that come again and again, which gRPC carries once.
constexpr uint64_t kFewRows = 50;

// The first of bytes [begin, end) that is no guard; `end` when all are.
size_t FirstChanged(const std::vector<std::byte>& buffer, size_t begin, size_t end) {
  if (begin == end) return end;
  // At memory's speed where there is none: each byte is as the one before it.
  const std::byte* const first = buffer.data() + begin;
  if (*first == kGuard && std::memcmp(first, first + 1, end - begin - 1) == 0) return end;
  const auto at = buffer.begin();
  return std::find_if(at + begin, at + end, [](std::byte b) { return b != kGuard; }) - at;
}

}  // namespace

size_t SoakBatch::Place::RowAt(uint64_t row) const {
  if (group_rows == 0) return begin + row * row_bytes;
  return begin + row / group_rows * stride + row % group_rows * row_bytes;
}

uint64_t SoakBatch::Place::GroupEnd(uint64_t row) const {
  const uint64_t left = ids.size() - row;
  return RowAt(row) + (group_rows == 0 ? left : std::min(left, group_rows)) * row_bytes;
}

absl::Status SoakBatch::Draw(const Manifest& manifest, uint64_t tokens, uint64_t most_rows,
                             Draws& draws) {
  if (absl::Status status = CheckGivenBack(); !status.ok()) return status;
  given_back_ = false;
  tokens_ = tokens;
  std::vector<size_t> order(manifest.layers.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), draws.generator());
  order.resize(1 + draws.Below(order.size()));
  const uint64_t columns = manifest.scheme.Columns();
  uint64_t rows = std::max<uint64_t>(1, std::min(tokens * columns, most_rows / order.size()));
  // Whole tokens as a rule, any number otherwise.
  if (draws.OneIn(4)) rows -= draws.Below(std::min(rows, columns));
  places_.resize(manifest.layers.size());
  requests_.clear();
  for (size_t i = 0; i < order.size(); ++i) {
    Place& place = places_[i];
    DrawPlace(manifest.layers[order[i]], rows, draws, &place);
    requests_.push_back({.layer = manifest.layers[order[i]].layer,
                         .row_ids = place.ids,
                         .landing = {.data = place.buffer.data() + place.begin,
                                     .group_rows = place.group_rows,
                                     .group_stride_bytes = place.stride}});
  }
  return absl::OkStatus();
}

void SoakBatch::DrawPlace(const LayerTableSpec& spec, uint64_t rows, Draws& draws, Place* place) {
  const uint64_t values = draws.OneIn(3) ? std::min(spec.rows, kFewRows) : spec.rows;
  place->ids.resize(rows);
  for (RowId& id : place->ids) id = draws.Below(values);
  place->row_bytes = spec.row_bytes;
  place->begin = kGuardBytes + draws.Below(kMostOffset);
  place->group_rows = draws.OneIn(3) ? 0 : 1 + draws.Below(kMostGroup);
  place->stride =
      place->group_rows == 0 ? 0 : place->group_rows * spec.row_bytes + draws.Below(kMostGap);
  place->used = place->RowAt(rows - 1) + spec.row_bytes + kGuardBytes;
  if (place->buffer.size() < place->used) place->buffer.resize(place->used);
  std::fill_n(place->buffer.begin(), place->used, kGuard);
}

uint64_t SoakBatch::rows() const {
  uint64_t rows = 0;
  for (const LayerRequest& request : requests_) rows += request.row_ids.size();
  return rows;
}

absl::Status SoakBatch::CheckRows(size_t index) const {
  const Place& place = places_[index];
  const uint32_t layer = requests_[index].layer;
  for (uint64_t i = 0; i < place.ids.size(); ++i) {
    const absl::Span<const std::byte> row(place.buffer.data() + place.RowAt(i), place.row_bytes);
    if (IsSyntheticRow(layer, place.ids[i], row)) continue;
    return absl::DataLossError(absl::StrCat("layer ", layer, ", place ", i, " of ",
                                            place.ids.size(), ": these are not the bytes of row ",
                                            place.ids[i]));
  }
  return absl::OkStatus();
}

absl::Status SoakBatch::CheckOutside() const {
  for (size_t index = 0; index < requests_.size(); ++index) {
    const Place& place = places_[index];
    size_t outside = 0;  // where bytes of nobody begin
    for (uint64_t row = 0; row < place.ids.size();
         row += place.group_rows == 0 ? place.ids.size() : place.group_rows) {
      const size_t group = place.RowAt(row);
      const size_t changed = FirstChanged(place.buffer, outside, group);
      if (changed < group) {
        return absl::InternalError(absl::StrCat("layer ", requests_[index].layer, ": byte ",
                                                group - changed, " before row ", row, " of ",
                                                place.ids.size(), " was written to"));
      }
      outside = place.GroupEnd(row);
    }
    const size_t changed = FirstChanged(place.buffer, outside, place.used);
    if (changed < place.used) {
      return absl::InternalError(absl::StrCat("layer ", requests_[index].layer, ": byte ",
                                              changed - outside, " behind the last of ",
                                              place.ids.size(), " rows was written to"));
    }
  }
  return absl::OkStatus();
}

void SoakBatch::GiveBack() {
  given_back_ = true;
  for (Place& place : places_) std::fill_n(place.buffer.begin(), place.used, kGuard);
}

void SoakBatch::Shrink(size_t most_bytes) {
  for (Place& place : places_) {
    if (place.buffer.size() <= most_bytes) continue;
    place = {};
  }
}

absl::Status SoakBatch::CheckGivenBack() const {
  if (!given_back_) return absl::OkStatus();
  for (const Place& place : places_) {
    const size_t changed = FirstChanged(place.buffer, 0, place.used);
    if (changed == place.used) continue;
    return absl::InternalError(absl::StrCat("byte ", changed, " of ", place.used,
                                            " of a landing buffer was written to after Reap"));
  }
  return absl::OkStatus();
}

}  // namespace engram::soak
