#include "server/lookup/places.h"

#include <tuple>
#include <utility>

#include "memstore/base/check.h"

namespace engram {

Places::Answer Places::Take(uint64_t connection, MonotonicTime now, std::function<void()> give_way,
                            Place* place) {
  ENGRAM_CHECK(place->places_ == nullptr, "a place was taken twice");
  MutexLock lock(mutex_);
  const auto own = held_.find(connection);
  const uint32_t held = own == held_.end() ? 0 : own->second;
  const size_t free = places_ > taken_.size() ? places_ - taken_.size() : 0;
  if (held >= free) {
    if (free > 0) return Answer::kShare;
    Place* const least = Least(now);
    // Where there is none left, of two that have some the one that has less gets another.
    const bool has_more = least != nullptr && *least->held_ > held;
    if (held > 0 && !has_more) return Answer::kShare;
    if (least == nullptr) return Answer::kFull;
    GiveWay(*least);
  }
  place->places_ = this;
  place->connection_ = connection;
  place->since_ = now;
  place->give_way_ = std::move(give_way);
  place->held_ = &held_[connection];
  ++*place->held_;
  place->at_ = taken_.size();
  taken_.push_back(place);
  count_.store(static_cast<uint32_t>(taken_.size()), std::memory_order_relaxed);
  return Answer::kTaken;
}

bool Places::EndOne(MonotonicTime now, bool even_served) {
  MutexLock lock(mutex_);
  Place* const least = Least(now);
  if (least == nullptr) return false;
  if (!even_served && least->served_ns_.load(std::memory_order_relaxed) != 0) return false;
  GiveWay(*least);
  return true;
}

void Places::Remove(Place& place) {
  MutexLock lock(mutex_);
  if (place.held_ != nullptr) TakeOut(place);
  place.places_ = nullptr;
  place.give_way_ = nullptr;
}

void Places::TakeOut(Place& place) {
  if (--*place.held_ == 0) held_.erase(place.connection_);
  place.held_ = nullptr;
  taken_[place.at_] = taken_.back();
  taken_[place.at_]->at_ = place.at_;
  taken_.pop_back();
  count_.store(static_cast<uint32_t>(taken_.size()), std::memory_order_relaxed);
}

void Places::GiveWay(Place& place) {
  TakeOut(place);
  place.give_way_();
}

Places::Place* Places::Least(MonotonicTime now) const {
  Place* least = nullptr;
  // Whether it ever served, less what its connection holds, since when.
  std::tuple<bool, int64_t, int64_t> least_rank;
  for (Place* const place : taken_) {
    if (!place->waits_for_client_.load(std::memory_order_relaxed)) continue;
    const int64_t served_ns = place->served_ns_.load(std::memory_order_relaxed);
    const bool served = served_ns != 0;
    if (served && now - MonotonicTime::FromNanoseconds(served_ns) < min_idle_) continue;
    const std::tuple<bool, int64_t, int64_t> rank = {
        served, -int64_t{*place->held_}, served ? served_ns : place->since_.nanoseconds()};
    if (least != nullptr && rank >= least_rank) continue;
    least = place;
    least_rank = rank;
  }
  return least;
}

}  // namespace engram
