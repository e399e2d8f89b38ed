// What the router shows of its cluster.

#include <algorithm>

#include "memstore/cluster/router.h"

namespace engram {
namespace {

StoreSight SightOf(StoreStanding standing, bool is_draining) {
  switch (standing) {
    case StoreStanding::kUp:
      return is_draining ? StoreSight::kDraining : StoreSight::kUp;
    case StoreStanding::kOnTrial:
      return StoreSight::kOnTrial;
    case StoreStanding::kEjected:
      return StoreSight::kEjected;
    case StoreStanding::kFenced:
      return StoreSight::kFenced;
  }
  return StoreSight::kUp;
}

}  // namespace

ClusterView Router::View() const {
  ClusterView view;
  for (const auto& [id, store] : stores_) {
    if (!store.is_in_map) continue;
    view.stores.push_back({store.address, SightOf(store.health.standing(), store.is_draining)});
  }
  for (const uint32_t place : piece_of_map_) {
    const Piece& piece = *pieces_[place];
    view.up_stores_of_piece.push_back(static_cast<uint32_t>(
        std::count_if(piece.holders.begin(), piece.holders.end(), [&](StoreId id) {
          const Store* const store = FindStore(id);
          return store != nullptr &&
                 SightOf(store->health.standing(), store->is_draining) == StoreSight::kUp &&
                 std::find(piece.not_holding.begin(), piece.not_holding.end(), id) ==
                     piece.not_holding.end();
        })));
  }
  return view;
}

}  // namespace engram
