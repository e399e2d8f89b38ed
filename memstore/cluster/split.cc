#include "memstore/cluster/split.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Of one piece in a batch: the parts of kRuns, and so many can a slice have at most (a run of the
// slice may be cut by pieces, into a run a column).
constexpr uint32_t kMaxRanks = (kMaxOrder - 1) * kMaxHeadsPerOrder;
// Tokens that are copied for all lanes before the next ones: their ids stay in the first cache.
constexpr uint64_t kBlockTokens = 64;
// The least places that a pattern is made for; beyond it doubles.
constexpr uint64_t kLeastPatternTokens = 64;

// Ids of a layer that are put where they belong at once, times pieces: 6 MiB of scratch. More are
// counted first.
constexpr uint64_t kMostRoom = uint64_t{1} << 19;

// For ids in any order, and as many places.
uint64_t RoomOfRanges(uint64_t pieces, uint64_t ids) {
  return pieces * ids <= kMostRoom ? pieces * ids : ids;
}

constexpr uint32_t KeyOf(uint32_t piece, uint32_t rank) { return piece * kMaxRanks + rank; }

// `tokens` times kColumns ids, from every `from_stride`-th to every `to_stride`-th.
template <size_t kColumns>
void CopyColumns(const RowId* from, size_t from_stride, RowId* to, size_t to_stride,
                 uint64_t tokens) {
  for (uint64_t t = 0; t < tokens; ++t, from += from_stride, to += to_stride) {
    std::memcpy(to, from, kColumns * sizeof(RowId));
  }
}

void CopyRun(const RowId* from, size_t from_stride, RowId* to, size_t to_stride, uint64_t tokens,
             uint32_t columns) {
  switch (columns) {
    case 1:
      return CopyColumns<1>(from, from_stride, to, to_stride, tokens);
    case 2:
      return CopyColumns<2>(from, from_stride, to, to_stride, tokens);
    case 3:
      return CopyColumns<3>(from, from_stride, to, to_stride, tokens);
    case 4:
      return CopyColumns<4>(from, from_stride, to, to_stride, tokens);
    case 6:
      return CopyColumns<6>(from, from_stride, to, to_stride, tokens);
    case 8:
      return CopyColumns<8>(from, from_stride, to, to_stride, tokens);
    default:
      for (uint64_t t = 0; t < tokens; ++t, from += from_stride, to += to_stride) {
        std::memcpy(to, from, columns * sizeof(RowId));
      }
  }
}

// The next `count` of a buffer that was made long enough before.
template <typename T>
T* Take(std::vector<T>* buffer, size_t count, size_t* used) {
  ENGRAM_CHECK(*used + count <= buffer->size(), "a split's buffer is too short");
  T* const taken = buffer->data() + *used;
  *used += count;
  return taken;
}

template <typename T>
void GrowTo(size_t size, std::vector<T>* buffer) {
  if (buffer->size() < size) buffer->resize(std::bit_ceil(size));
}

// `goes_on`: behind the last run's columns.
void AddColumn(uint32_t column, bool goes_on, std::vector<ColumnRun>* runs) {
  if (goes_on) {
    ++runs->back().columns;
  } else {
    runs->push_back({.first_column = column, .columns = 1});
  }
}

absl::Status NoRuns(absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(why,
                   ", which takes a list of places, and there is no way for one here: ask for "
                   "rows in columns, or in the order of partitions"));
}

}  // namespace

// A piece's columns of a slice, as many as are a slice of their own, or one run of them.
struct BatchSplitter::Lane {
  uint32_t piece = 0;
  uint32_t rank = 0;
  std::vector<ColumnRun> runs = {};      // of the slice's columns
  std::vector<ColumnRun> of_layer = {};  // of the layer's: those of `slice`
  uint32_t columns = 0;
  ColumnSlice slice = {};
  uint32_t pattern = 0;  // where there are several runs
};

struct BatchSplitter::Shape {
  uint32_t layer_index = 0;
  SplitStyle style = SplitStyle::kPlaces;
  ColumnSlice slice;
  std::vector<Lane> lanes;
};

// Where the rows of a lane land, token after token: the same for every batch, whatever its ids.
struct BatchSplitter::Pattern {
  uint32_t slice_columns = 0;
  std::vector<ColumnRun> runs;
  std::shared_ptr<const std::vector<uint32_t>> places;
};

BatchSplitter::BatchSplitter(std::shared_ptr<const ClusterMap> map) : map_(std::move(map)) {}

BatchSplitter::~BatchSplitter() = default;

std::shared_ptr<const BatchSplitter::Shape> BatchSplitter::ShapeOf(uint32_t layer_index,
                                                                   const ColumnSlice& slice,
                                                                   SplitStyle style) {
  for (const std::shared_ptr<const Shape>& shape : shapes_) {
    if (shape->layer_index == layer_index && shape->style == style && shape->slice == slice) {
      return shape;
    }
  }
  if (shapes_.size() >= kMaxShapes) {
    shapes_.clear();
    patterns_.clear();
  }
  return shapes_.emplace_back(MakeShape(layer_index, slice, style));
}

std::shared_ptr<const BatchSplitter::Shape> BatchSplitter::MakeShape(uint32_t layer_index,
                                                                     const ColumnSlice& slice,
                                                                     SplitStyle style) {
  auto shape = std::make_shared<Shape>();
  shape->layer_index = layer_index;
  shape->style = style;
  shape->slice = slice;
  CutLanes(shape.get());
  for (Lane& lane : shape->lanes) {
    const auto made = ColumnSlice::Create(lane.of_layer, slice.layer_columns(), slice.layer());
    ENGRAM_CHECK(made.ok(), "a lane is no slice");
    lane.slice = *made;
    lane.pattern = PatternOf(slice.columns(), lane.runs);
  }
  return shape;
}

// The slice's columns, one after the other, each to its piece's last lane while that has a run left
// for it.
void BatchSplitter::CutLanes(Shape* shape) const {
  const ColumnSlice& slice = shape->slice;
  const absl::Span<const uint16_t> pieces = map_->PiecesOfColumns(shape->layer_index);
  std::vector<uint32_t> ranks(map_->pieces().size());
  std::vector<size_t> lane_of(map_->pieces().size());
  for (uint32_t column = 0; column < slice.columns(); ++column) {
    const uint32_t of_layer = slice.LayerColumn(column);
    const uint32_t piece = pieces[of_layer];
    const bool follows = column > 0 && pieces[slice.LayerColumn(column - 1)] == piece;
    bool is_first = ranks[piece] == 0 || (shape->style == SplitStyle::kRuns && !follows);
    bool touches = false;  // the column before, of the layer
    if (!is_first) {
      const std::vector<ColumnRun>& runs = shape->lanes[lane_of[piece]].of_layer;
      touches = runs.back().first_column + runs.back().columns == of_layer;
      is_first = !touches && runs.size() == ColumnSlice::kMaxRuns;
    }
    if (is_first) {
      lane_of[piece] = shape->lanes.size();
      shape->lanes.push_back({.piece = piece, .rank = ranks[piece]++});
    }
    Lane& lane = shape->lanes[lane_of[piece]];
    ++lane.columns;
    AddColumn(column, !is_first && follows, &lane.runs);
    AddColumn(of_layer, !is_first && touches, &lane.of_layer);
  }
}

uint32_t BatchSplitter::PatternOf(uint32_t columns, absl::Span<const ColumnRun> runs) {
  for (size_t i = 0; i < patterns_.size(); ++i) {
    if (patterns_[i].slice_columns == columns && absl::MakeConstSpan(patterns_[i].runs) == runs) {
      return static_cast<uint32_t>(i);
    }
  }
  Pattern& made = patterns_.emplace_back();
  made.slice_columns = columns;
  made.runs.assign(runs.begin(), runs.end());
  return static_cast<uint32_t>(patterns_.size() - 1);
}

absl::Span<const uint32_t> BatchSplitter::PlacesOf(uint32_t index, uint64_t tokens,
                                                   BatchSplit* split) {
  Pattern& pattern = patterns_[index];
  uint32_t columns = 0;
  for (const ColumnRun& run : pattern.runs) columns += run.columns;
  const uint64_t rows = tokens * columns;
  if (pattern.places == nullptr || pattern.places->size() < rows) {
    const uint64_t made_tokens = std::max(std::bit_ceil(tokens), kLeastPatternTokens);
    auto places = std::make_shared<std::vector<uint32_t>>(made_tokens * columns);
    uint32_t* place = places->data();
    for (uint64_t t = 0; t < made_tokens; ++t) {
      for (const ColumnRun& run : pattern.runs) {
        const auto first = static_cast<uint32_t>(t * pattern.slice_columns + run.first_column);
        for (uint32_t c = 0; c < run.columns; ++c) *place++ = first + c;
      }
    }
    pattern.places = std::move(places);
  }
  split->kept_.push_back(pattern.places);
  return absl::MakeConstSpan(*pattern.places).first(rows);
}

// Where the lane's rows land: strides where they can say it.
absl::Status BatchSplitter::LandLane(const SplitRequest& request, const Shape& shape,
                                     const Lane& lane, uint64_t tokens, SplitStyle style,
                                     BatchSplit* split, Landing* landing) {
  const uint32_t columns = shape.slice.columns();
  *landing = request.landing;
  if (lane.columns == columns) return absl::OkStatus();
  const bool by_token = request.landing.group_rows == 0 || request.landing.group_rows == columns;
  if (request.landing.places.empty() && by_token && lane.runs.size() == 1) {
    landing->data += uint64_t{lane.runs[0].first_column} * request.row_bytes;
    if (landing->group_rows == 0) {
      landing->group_stride_bytes = uint64_t{columns} * request.row_bytes;
    }
    landing->group_rows = lane.columns;
    return absl::OkStatus();
  }
  if (style == SplitStyle::kRuns) {
    return NoRuns("rows land by a list, or in groups that are not a token's columns");
  }
  if (request.landing.places.empty()) {
    // Places without gaps between groups need none, and no division a row.
    if (landing->group_stride_bytes == landing->group_rows * request.row_bytes) {
      landing->group_rows = 0;
      landing->group_stride_bytes = 0;
    }
    landing->places = PlacesOf(lane.pattern, tokens, split);
    return absl::OkStatus();
  }
  uint32_t* const listed = Take(&split->places_, tokens * lane.columns, &split->places_used_);
  uint32_t* place = listed;
  for (uint64_t t = 0; t < tokens; ++t) {
    for (const ColumnRun& run : lane.runs) {
      const uint32_t* const from = &request.landing.places[t * columns + run.first_column];
      place = std::copy(from, from + run.columns, place);
    }
  }
  landing->places = absl::MakeConstSpan(listed, tokens * lane.columns);
  return absl::OkStatus();
}

absl::Status BatchSplitter::SplitColumns(uint32_t index, const SplitRequest& request,
                                         SplitStyle style, BatchSplit* split) {
  const ColumnSlice& slice = *request.slice;
  const uint32_t columns = slice.columns();
  if (slice.layer_columns() != map_->columns()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a slice of ", slice.layer_columns(), " columns of a layer that has ", map_->columns()));
  }
  if (columns == 0) return absl::OkStatus();
  const bool by_tokens = request.tokens > 0;
  if (!by_tokens && request.row_ids.size() % columns != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        request.row_ids.size(), " row ids are no whole tokens of ", columns, " columns"));
  }
  const uint64_t tokens = by_tokens ? request.tokens : request.row_ids.size() / columns;
  const std::shared_ptr<const Shape> shape = ShapeOf(request.layer_index, slice, style);
  split->kept_.push_back(shape);
  const size_t first_entry = split->entries_.size();
  for (const Lane& lane : shape->lanes) {
    BatchSplit::Entry& entry = split->entries_.emplace_back();
    entry.key = KeyOf(lane.piece, lane.rank);
    entry.layer.request = index;
    entry.layer.rows = tokens * lane.columns;
    entry.layer.slice = &lane.slice;
    ENGRAM_RETURN_IF_ERROR(
        LandLane(request, *shape, lane, tokens, style, split, &entry.layer.landing));
    if (by_tokens) continue;
    if (shape->lanes.size() == 1) {
      entry.layer.row_ids = request.row_ids;  // nothing to take apart
      continue;
    }
    entry.ids = Take(&split->ids_, entry.layer.rows, &split->ids_used_);
    entry.layer.row_ids = absl::MakeConstSpan(entry.ids, entry.layer.rows);
  }
  if (by_tokens || shape->lanes.size() == 1) return absl::OkStatus();
  for (uint64_t t = 0; t < tokens; t += kBlockTokens) {
    const uint64_t block = std::min(kBlockTokens, tokens - t);
    for (size_t i = 0; i < shape->lanes.size(); ++i) {
      const Lane& lane = shape->lanes[i];
      RowId* to = split->entries_[first_entry + i].ids + t * lane.columns;
      for (const ColumnRun& run : lane.runs) {
        CopyRun(&request.row_ids[t * columns + run.first_column], columns, to, lane.columns, block,
                run.columns);
        to += run.columns;
      }
    }
  }
  return absl::OkStatus();
}

namespace {

// Each id to where the next one of its piece goes, and its place with it. Two ids at a time: where
// they are of one piece the second need not wait until the first was counted. `place_of(i)`: of the
// i-th.
template <typename PlaceOf>
void Scatter(const PieceTable& table, absl::Span<const RowId> ids, const PlaceOf& place_of,
             uint32_t* next, RowId* part_ids, uint32_t* places) {
  const auto put = [&](uint32_t to, size_t i) {
    part_ids[to] = ids[i];
    places[to] = place_of(i);
  };
  size_t i = 0;
  for (; i + 2 <= ids.size(); i += 2) {
    const uint32_t first = table.PieceOf(ids[i]);
    const uint32_t second = table.PieceOf(ids[i + 1]);
    const uint32_t to_first = next[first];
    const uint32_t to_second = next[second] + (first == second ? 1 : 0);
    next[first] = to_first + 1;
    next[second] = to_second + 1;
    put(to_first, i);
    put(to_second, i + 1);
  }
  if (i < ids.size()) put(next[table.PieceOf(ids[i])]++, i);
}

// Whether places [first, first + rows) of the landing can be said as a landing of their own.
bool LandsAsOneRun(uint64_t first, uint32_t row_bytes, Landing* landing) {
  if (landing->group_rows == 0 || landing->group_stride_bytes == landing->group_rows * row_bytes) {
    landing->data += first * row_bytes;
    landing->group_rows = 0;
    landing->group_stride_bytes = 0;
    return true;
  }
  if (first % landing->group_rows != 0) return false;
  landing->data += first / landing->group_rows * landing->group_stride_bytes;
  return true;
}

}  // namespace

absl::Status BatchSplitter::SplitRanges(uint32_t index, const SplitRequest& request,
                                        SplitStyle style, BatchSplit* split) {
  const absl::Span<const RowId> ids = request.row_ids;
  if (ids.empty()) return absl::OkStatus();
  const auto pieces = static_cast<uint32_t>(map_->pieces().size());
  if (pieces == 1) {
    split->entries_.push_back(
        {.key = KeyOf(0, 0),
         .layer = {
             .request = index, .rows = ids.size(), .row_ids = ids, .landing = request.landing}});
    return absl::OkStatus();
  }
  const PieceTable& table = map_->PiecesOfRows(request.layer_index);
  const uint64_t room = RoomOfRanges(pieces, ids.size());
  RowId* const part_ids = Take(&split->ids_, room, &split->ids_used_);
  uint32_t* const places = Take(&split->places_, room, &split->places_used_);
  // Where each piece's ids begin: with room for all of them, or where those of the one before end.
  split->begins_.assign(pieces, 0);
  uint32_t* const begins = split->begins_.data();
  if (room > ids.size()) {
    for (uint32_t p = 0; p < pieces; ++p) begins[p] = static_cast<uint32_t>(p * ids.size());
  } else {
    for (const RowId id : ids) ++begins[table.PieceOf(id)];
    uint32_t begin = 0;
    for (uint32_t p = 0; p < pieces; ++p) begin += std::exchange(begins[p], begin);
  }
  split->next_.assign(split->begins_.begin(), split->begins_.end());
  const absl::Span<const uint32_t> given = request.landing.places;
  const bool is_listed = !given.empty();
  if (is_listed) {
    Scatter(
        table, ids, [&](size_t i) { return given[i]; }, split->next_.data(), part_ids, places);
  } else {
    Scatter(
        table, ids, [](size_t i) { return static_cast<uint32_t>(i); }, split->next_.data(),
        part_ids, places);
  }
  const size_t first_entry = split->entries_.size();
  for (uint32_t piece = 0; piece < pieces; ++piece) {
    const uint32_t begin = begins[piece], rows = split->next_[piece] - begin;
    if (rows == 0) continue;
    BatchSplit::Entry& entry = split->entries_.emplace_back();
    entry.key = KeyOf(piece, 0);
    entry.layer = {.request = index, .rows = rows, .row_ids = ids, .landing = request.landing};
    if (rows == ids.size()) return absl::OkStatus();  // it has them all, as they came
    entry.layer.row_ids = absl::MakeConstSpan(part_ids + begin, rows);
    entry.layer.landing.places = absl::MakeConstSpan(places + begin, rows);
  }
  for (size_t i = first_entry; i < split->entries_.size(); ++i) {
    PartLayer& layer = split->entries_[i].layer;
    const absl::Span<const uint32_t> listed = layer.landing.places;
    // Places that were not listed ascend.
    const bool is_run = !is_listed && listed.back() - listed.front() + 1 == layer.rows;
    if (is_run && LandsAsOneRun(listed.front(), request.row_bytes, &layer.landing)) {
      layer.landing.places = {};
    } else if (style == SplitStyle::kRuns) {
      return NoRuns("rows of one store lie apart in the landing");
    }
  }
  return absl::OkStatus();
}

// Entries of one part side by side, in the batch's order.
void BatchSplitter::CollectParts(absl::Span<const SplitRequest> requests, BatchSplit* split) {
  std::vector<BatchSplit::Entry>& entries = split->entries_;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.key != b.key ? a.key < b.key : a.layer.request < b.layer.request;
  });
  split->layers_.resize(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    PartLayer& layer = split->layers_[i] = entries[i].layer;
    if (i == 0 || entries[i].key != entries[i - 1].key) {
      split->parts_.push_back({.piece = entries[i].key / kMaxRanks});
      split->parts_.back().layers = absl::MakeConstSpan(&layer, 0);
    }
    SplitPart& part = split->parts_.back();
    part.layers = absl::MakeConstSpan(part.layers.data(), part.layers.size() + 1);
    part.rows += layer.rows;
    part.bytes += layer.rows * requests[layer.request].row_bytes;
  }
}

absl::Status BatchSplitter::Split(absl::Span<const SplitRequest> layers, SplitStyle style,
                                  BatchSplit* split) {
  split->parts_.clear();
  split->layers_.clear();
  split->entries_.clear();
  split->kept_.clear();
  split->ids_used_ = split->places_used_ = 0;
  size_t ids = 0, places = 0;
  for (const SplitRequest& request : layers) {
    const uint64_t rows = request.tokens > 0 && request.slice != nullptr
                              ? request.tokens * uint64_t{request.slice->columns()}
                              : request.row_ids.size();
    if (request.layer_index >= map_->layers()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", request.layer_index, " of a set of ", map_->layers(), " layers"));
    }
    if (rows > UINT32_MAX) {
      return absl::InvalidArgumentError(
          absl::StrCat(rows, " rows of one layer: fewer than 2^32 at once"));
    }
    const uint64_t room =
        request.slice == nullptr ? RoomOfRanges(map_->pieces().size(), rows) : rows;
    ids += request.row_ids.empty() ? 0 : room;
    if (request.slice == nullptr || !request.landing.places.empty()) places += room;
  }
  GrowTo(ids, &split->ids_);
  GrowTo(places, &split->places_);
  for (uint32_t i = 0; i < layers.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(layers[i].slice != nullptr ? SplitColumns(i, layers[i], style, split)
                                                      : SplitRanges(i, layers[i], style, split));
  }
  CollectParts(layers, split);
  return absl::OkStatus();
}

}  // namespace engram
