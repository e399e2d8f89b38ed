#include "tests/bench/cluster/balance.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/cache/hot_cache_index.h"
#include "memstore/partition/partition.h"

namespace engram::bench {
namespace {

constexpr size_t kMostHeads = 8;
// Row ids of a unit; what it has not is 0 in all.
using Unit = std::array<RowId, kMostHeads>;

class Counting {
 public:
  Counting(const Addresser& addresser, const BalanceOptions& options)
      : addresser_(addresser), options_(options), columns_(addresser.scheme().Columns()) {}

  absl::Status Prepare() {
    const AddressScheme& scheme = addresser_.scheme();
    const uint32_t n = options_.partitions;
    if (n == 0 || scheme.heads_per_order % n != 0 || columns_ % n != 0 ||
        scheme.heads_per_order > kMostHeads) {
      return absl::InvalidArgumentError(
          absl::StrCat(n, " partitions do not cut ", scheme.heads_per_order, " heads evenly"));
    }
    unit_ = std::gcd(scheme.heads_per_order / n, columns_ / n);
    partition_of_.resize(columns_);
    for (uint32_t k = 0; k < n; ++k) {
      if (options_.cut == Cut::kColumns) {
        std::fill_n(partition_of_.begin() + k * (columns_ / n), columns_ / n, k);
        continue;
      }
      ENGRAM_ASSIGN_OR_RETURN(const std::vector<HeldColumns> held,
                              ColumnsOf(PartitionIndex{k, n}, scheme));
      for (const ColumnRun& run : held[0].runs) {
        std::fill_n(partition_of_.begin() + run.first_column, run.columns, k);
      }
    }
    return absl::OkStatus();
  }

  // visit(layer, column, unit) for each unit that differs within its batch and layer.
  template <typename Visit>
  absl::Status ForEachDistinct(absl::Span<const int32_t> ids, Visit&& visit) {
    const AddressScheme& scheme = addresser_.scheme();
    SequenceState state = Addresser::Start();
    std::vector<RowId> rows(options_.batch_tokens * columns_);
    for (size_t at = 0; at < ids.size(); at += options_.batch_tokens) {
      const absl::Span<const int32_t> batch = ids.subspan(at, options_.batch_tokens);
      for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
        const LayerRowIdsOutput output{
            .layer_index = l, .rows = rows.data(), .token_stride = columns_};
        ENGRAM_RETURN_IF_ERROR(addresser_.Address(state, batch, {}, {&output, 1}));
        seen_.clear();
        for (size_t i = 0; i < batch.size() * columns_; i += unit_) {
          Unit unit{};
          std::copy_n(rows.begin() + static_cast<ptrdiff_t>(i), unit_, unit.begin());
          if (seen_.insert(unit).second) visit(at, scheme.layers[l].layer, i % columns_, unit);
        }
      }
      ENGRAM_RETURN_IF_ERROR(addresser_.Advance(batch, {}, &state));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Balance> Count(absl::Span<const int32_t> ids) {
    absl::flat_hash_set<std::pair<uint32_t, Unit>> all;
    ENGRAM_RETURN_IF_ERROR(ForEachDistinct(
        ids, [&](size_t, uint32_t layer, size_t, const Unit& unit) { all.emplace(layer, unit); }));
    const auto places =
        static_cast<uint64_t>(options_.cached_share * static_cast<double>(all.size()));
    ENGRAM_ASSIGN_OR_RETURN(HotCacheIndex cache, HotCacheIndex::Create(places, unit_));
    const size_t half = ids.size() / 2 / options_.batch_tokens * options_.batch_tokens;
    Balance balance{.tokens = ids.size() - half,
                    .distinct = std::vector<uint64_t>(options_.partitions),
                    .missed = std::vector<uint64_t>(options_.partitions)};
    ENGRAM_RETURN_IF_ERROR(
        ForEachDistinct(ids, [&](size_t at, uint32_t layer, size_t column, const Unit& unit) {
          const absl::Span<const RowId> key(unit.data(), unit_);
          const bool hit = cache.Find(layer, key) != HotCacheIndex::kMiss;
          if (!hit) cache.Admit(layer, key);
          if (at < half) return;
          const uint64_t bytes = uint64_t{unit_} * options_.row_bytes;
          balance.distinct[partition_of_[column]] += bytes;
          if (!hit) balance.missed[partition_of_[column]] += bytes;
        }));
    return balance;
  }

 private:
  const Addresser& addresser_;
  const BalanceOptions& options_;
  const uint32_t columns_;
  uint32_t unit_ = 1;
  std::vector<uint32_t> partition_of_;  // a column each
  absl::flat_hash_set<Unit> seen_;
};

}  // namespace

double Sum(absl::Span<const uint64_t> bytes) {
  return static_cast<double>(std::accumulate(bytes.begin(), bytes.end(), uint64_t{0}));
}

double MaxOverMean(absl::Span<const uint64_t> bytes) {
  const double sum = Sum(bytes);
  if (sum == 0) return 1;
  return static_cast<double>(*std::max_element(bytes.begin(), bytes.end())) *
         static_cast<double>(bytes.size()) / sum;
}

absl::StatusOr<Balance> BalanceOf(const Addresser& addresser, absl::Span<const int32_t> ids,
                                  const BalanceOptions& options) {
  Counting counting(addresser, options);
  ENGRAM_RETURN_IF_ERROR(counting.Prepare());
  return counting.Count(ids);
}

}  // namespace engram::bench
