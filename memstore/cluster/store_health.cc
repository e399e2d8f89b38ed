#include "memstore/cluster/store_health.h"

#include <algorithm>

namespace engram {

void StoreHealth::Eject(MonotonicTime now, std::mt19937_64& random) {
  // 2^10 times the first is beyond the longest.
  const absl::Duration due =
      std::min(kFirstEjection * (1 << std::min(ejections_, 10u)), kLongestEjection);
  const double share = 0.8 + 0.4 * (static_cast<double>(random() >> 11) * 0x1p-53);
  until_ = now + due * share;
  standing_ = StoreStanding::kEjected;
  ++ejections_;
  errors_ = 0;
}

bool StoreHealth::Failed(StoreFailure failure, MonotonicTime now, std::mt19937_64& random) {
  if (standing_ == StoreStanding::kFenced) return false;
  if (failure == StoreFailure::kDamaged) {
    standing_ = StoreStanding::kFenced;
    until_ = MonotonicTime::Infinite();
    return true;
  }
  // What was under way when it was ejected tells nothing new.
  if (standing_ == StoreStanding::kEjected) return false;
  ++errors_;
  const bool is_error = failure == StoreFailure::kError && standing_ == StoreStanding::kUp;
  if (is_error && errors_ < kErrorsBeforeEjection) return false;
  for_silence_ = failure == StoreFailure::kSilent;
  Eject(now, random);
  return true;
}

void StoreHealth::Succeeded() {
  errors_ = 0;
  if (standing_ == StoreStanding::kFenced) return;
  ejections_ = 0;
  standing_ = StoreStanding::kUp;
  until_ = MonotonicTime::Infinite();
}

bool StoreHealth::Heard() {
  if (standing_ != StoreStanding::kEjected || !for_silence_) return false;
  standing_ = StoreStanding::kUp;
  until_ = MonotonicTime::Infinite();
  return true;
}

bool StoreHealth::TryAgain(MonotonicTime now) {
  if (standing_ != StoreStanding::kEjected || now < until_) return false;
  standing_ = StoreStanding::kOnTrial;
  until_ = MonotonicTime::Infinite();
  return true;
}

}  // namespace engram
