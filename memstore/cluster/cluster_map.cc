#include "memstore/cluster/cluster_map.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// INVALID_ARGUMENT: not the layers and rows of the set that the client attached to.
absl::Status CheckShape(const HeldSet& set, const AddressScheme& scheme) {
  if (set.layers.size() != scheme.layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it lists ", set.layers.size(), " layers, and the set has ", scheme.layers.size()));
  }
  for (size_t i = 0; i < set.layers.size(); ++i) {
    const HeldTableLayer& held = set.layers[i];
    const LayerAddressing& layer = scheme.layers[i];
    if (held.layer != layer.layer || held.rows.table_rows != layer.Rows()) {
      return absl::InvalidArgumentError(
          absl::StrCat("it lists layer ", held.layer, " of ", held.rows.table_rows,
                       " rows where the set has layer ", layer.layer, " of ", layer.Rows()));
    }
  }
  return absl::OkStatus();
}

const HeldSet* FindSet(const StoreState& store, absl::string_view set_id) {
  for (const HeldSet& set : store.sets) {
    if (set.set_id == set_id && set.state != HoldingState::kStaged) return &set;
  }
  return nullptr;
}

void AddColumn(uint32_t column, std::vector<ColumnRun>* runs) {
  if (!runs->empty() && runs->back().first_column + runs->back().columns == column) {
    ++runs->back().columns;
  } else {
    runs->push_back({.first_column = column, .columns = 1});
  }
}

template <typename Visit>
void ForEachColumn(const HeldColumns& columns, Visit&& visit) {
  for (const ColumnRun& run : columns.runs) {
    for (uint32_t c = 0; c < run.columns; ++c) visit(run.first_column + c);
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ClusterMap>> ClusterMap::Create(
    absl::string_view set_id, const AddressScheme& scheme, absl::Span<const StoreState> heard) {
  HeardStores sifted = SiftStores(heard);
  std::shared_ptr<ClusterMap> map(new ClusterMap);
  map->set_id_ = std::string(set_id);
  map->columns_ = scheme.Columns();
  map->refused_ = std::move(sifted.refused);
  Holders holders(scheme.layers.size() * scheme.Columns());
  for (const HeardStores::Store& store : sifted.stores) map->AddStore(store, scheme, &holders);
  ENGRAM_RETURN_IF_ERROR(map->CutPieces(scheme, holders));
  return std::shared_ptr<const ClusterMap>(std::move(map));
}

void ClusterMap::AddStore(const HeardStores::Store& store, const AddressScheme& scheme,
                          Holders* holders) {
  const HeldSet* const set = FindSet(*store.state, set_id_);
  if (set == nullptr) return;
  if (const absl::Status status = CheckShape(*set, scheme); !status.ok()) {
    refused_.push_back({std::string(store.address), LeftOut(store.address, status)});
    return;
  }
  const auto place = static_cast<uint32_t>(stores_.size());
  stores_.push_back({.instance_id = store.state->instance_id,
                     .address = std::string(store.address),
                     .zone = store.state->zone,
                     .transports = store.state->transports,
                     .draining = set->state == HoldingState::kDraining,
                     .generation = set->generation,
                     .columns = {}});
  std::vector<HeldColumns>& columns = stores_.back().columns;
  for (size_t i = 0; i < scheme.layers.size(); ++i) {
    columns.push_back(WholeColumnsIn(set->layers[i].rows, scheme.layers[i]));
    ForEachColumn(columns.back(),
                  [&](uint32_t column) { (*holders)[i * columns_ + column].push_back(place); });
  }
}

// In the order of their first column, so that the same stores give the same map.
absl::Status ClusterMap::CutPieces(const AddressScheme& scheme, const Holders& holders) {
  std::map<std::vector<uint32_t>, uint16_t> piece_of_stores;
  piece_of_.reserve(holders.size());
  for (size_t i = 0; i < scheme.layers.size(); ++i) {
    Layer& layer = layers_.emplace_back();
    layer.number = scheme.layers[i].layer;
    std::vector<uint64_t> first_rows;  // of runs of columns of one piece
    std::vector<uint16_t> run_pieces;
    for (uint32_t column = 0; column < columns_; ++column) {
      const std::vector<uint32_t>& stores = holders[i * columns_ + column];
      const auto [found, is_new] =
          piece_of_stores.try_emplace(stores, static_cast<uint16_t>(pieces_.size()));
      if (is_new) {
        if (pieces_.size() == kMaxPieces) {
          return absl::FailedPreconditionError(
              absl::StrCat("the stores cut the set into more than ", kMaxPieces,
                           " pieces: have them hold partitions of one kind"));
        }
        if (stores.empty()) missing_ = found->second;
        MapPiece& piece = pieces_.emplace_back();
        piece.stores = stores;
        piece.columns.resize(scheme.layers.size());
        for (size_t j = 0; j < scheme.layers.size(); ++j) {
          piece.columns[j].layer = scheme.layers[j].layer;
        }
      }
      AddColumn(column, &pieces_[found->second].columns[i].runs);
      piece_of_.push_back(found->second);
      if (run_pieces.empty() || run_pieces.back() != found->second) {
        first_rows.push_back(scheme.layers[i].offsets[column]);
        run_pieces.push_back(found->second);
      }
    }
    first_rows.push_back(scheme.layers[i].Rows());
    layer.piece_of_row = PieceTable(first_rows, run_pieces);
  }
  for (MapPiece& piece : pieces_) piece.rows = RowsOf(piece.columns, scheme);
  return absl::OkStatus();
}

uint32_t ClusterMap::IndexOfLayer(uint32_t number) const {
  const auto found = std::lower_bound(layers_.begin(), layers_.end(), number,
                                      [](const Layer& l, uint32_t n) { return l.number < n; });
  if (found == layers_.end() || found->number != number) return layers();
  return static_cast<uint32_t>(found - layers_.begin());
}

std::vector<uint32_t> ClusterMap::HoldersOf(absl::Span<const HeldColumns> columns) const {
  std::vector<bool> asked(pieces_.size());
  for (size_t i = 0; i < columns.size() && i < layers_.size(); ++i) {
    ForEachColumn(columns[i], [&](uint32_t c) { asked[PiecesOfColumns(i)[c]] = true; });
  }
  std::vector<uint32_t> holders;
  bool is_first = true;
  for (size_t piece = 0; piece < pieces_.size(); ++piece) {
    if (!asked[piece]) continue;
    const std::vector<uint32_t>& stores = pieces_[piece].stores;
    if (is_first) {
      holders = stores;
      is_first = false;
      continue;
    }
    std::vector<uint32_t> both;
    std::set_intersection(holders.begin(), holders.end(), stores.begin(), stores.end(),
                          std::back_inserter(both));
    holders = std::move(both);
  }
  return holders;
}

bool ClusterMap::Covers(absl::Span<const HeldColumns> columns) const {
  if (missing_ < 0) return true;
  bool covers = true;
  for (size_t i = 0; i < columns.size() && i < layers_.size(); ++i) {
    ForEachColumn(columns[i], [&](uint32_t c) { covers &= PiecesOfColumns(i)[c] != missing_; });
  }
  return covers;
}

absl::Status ClusterMap::CheckComplete() const {
  if (is_complete()) return absl::OkStatus();
  std::string text =
      absl::StrCat("table set ", set_id_, ": no ready replica of ",
                   DescribePiece(pieces_[missing_]), " among ", stores_.size(), " stores");
  for (const RefusedStore& refused : refused_) {
    absl::StrAppend(&text, "; ", refused.why.message());
  }
  return absl::UnavailableError(text);
}

std::string DescribePiece(const MapPiece& piece) {
  std::string text;
  for (size_t i = 0; i < piece.columns.size(); ++i) {
    if (piece.columns[i].runs.empty()) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ",
                    ToString(absl::MakeConstSpan(&piece.columns[i], 1)), " (rows ",
                    ToString(piece.rows[i]), ")");
  }
  return text;
}

}  // namespace engram
