// hot_cache_hit_rate FAMILY TOKEN_MAP STREAM...: what share of a token stream's n-grams a hot cache
// of some sizes would have held (hot_cache_index.h), on real text. Rates over the second half of
// each stream; the first fills the cache.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/families.h"
#include "memstore/cache/hot_cache_index.h"
#include "memstore/os/standard_streams.h"

namespace engram {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSizes[] = {16 * kMiB, 64 * kMiB, 256 * kMiB, 1024 * kMiB, 4096 * kMiB};
constexpr size_t kAtOnce = 4096;

struct Rate {
  uint64_t hits = 0, all = 0;
};

std::vector<int32_t> ReadIds(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<int32_t> ids;
  for (int32_t id = 0; file.read(reinterpret_cast<char*>(&id), sizeof(id));) ids.push_back(id);
  return ids;
}

absl::StatusOr<Rate> RateOf(const Addresser& addresser, const std::vector<int32_t>& ids,
                            uint64_t bytes, uint32_t row_bytes) {
  const AddressScheme& scheme = addresser.scheme();
  const uint32_t heads = scheme.heads_per_order, orders = scheme.Columns() / heads;
  absl::StatusOr<HotCacheIndex> index =
      HotCacheIndex::Create(bytes / (uint64_t{heads} * row_bytes), heads);
  if (!index.ok()) return index.status();
  Rate rate;
  SequenceState state = Addresser::Start();
  std::vector<RowId> rows(kAtOnce * scheme.Columns());
  for (size_t at = 0; at < ids.size(); at += kAtOnce) {
    const absl::Span<const int32_t> part = absl::MakeConstSpan(ids).subspan(at, kAtOnce);
    for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
      const LayerRowIdsOutput output{
          .layer_index = l, .rows = rows.data(), .token_stride = scheme.Columns()};
      if (absl::Status s = addresser.Address(state, part, {}, {&output, 1}); !s.ok()) return s;
      for (size_t group = 0; group < part.size() * orders; ++group) {
        const absl::Span<const RowId> key(&rows[group * heads], heads);
        const bool hit = index->Find(scheme.layers[l].layer, key) != HotCacheIndex::kMiss;
        if (!hit) index->Admit(scheme.layers[l].layer, key);
        if (at < ids.size() / 2) continue;
        ++rate.all;
        rate.hits += hit;
      }
    }
    if (absl::Status s = addresser.Advance(part, {}, &state); !s.ok()) return s;
  }
  return rate;
}

absl::StatusOr<std::shared_ptr<const Addresser>> AddresserOf(const std::string& family,
                                                             const std::string& token_map) {
  const absl::StatusOr<const Family*> found = FindFamily(family);
  if (!found.ok()) return found.status();
  const absl::StatusOr<AddressScheme> scheme = Derive(**found, {});
  return scheme.ok() ? Addresser::Load(*scheme, token_map) : scheme.status();
}

int Run(const std::string& family, const std::string& token_map, absl::Span<char*> streams) {
  constexpr uint32_t kRowBytes = 264;  // DeepSeek-V4.1's; only the sizes' meaning depends on it
  const absl::StatusOr<std::shared_ptr<const Addresser>> addresser = AddresserOf(family, token_map);
  if (!addresser.ok()) {
    std::fprintf(stderr, "hot_cache_hit_rate: %s\n",
                 std::string(addresser.status().message()).c_str());
    return 1;
  }
  std::printf("%-28s  tokens", "hits, % of n-grams");
  for (const uint64_t bytes : kSizes)
    std::printf("  %5llu MiB", static_cast<unsigned long long>(bytes / kMiB));
  std::printf("\n");
  for (const char* stream : streams) {
    const std::vector<int32_t> ids = ReadIds(stream);
    const absl::string_view path = stream;
    std::printf("%-28s  %6zu", std::string(path.substr(path.rfind('/') + 1)).c_str(), ids.size());
    for (const uint64_t bytes : kSizes) {
      const absl::StatusOr<Rate> rate = RateOf(**addresser, ids, bytes, kRowBytes);
      if (!rate.ok() || rate->all == 0) {
        std::fprintf(stderr, "\n%s: %s\n", stream,
                     rate.ok() ? "no token ids" : std::string(rate.status().message()).c_str());
        return 1;
      }
      std::printf("  %9.1f",
                  100.0 * static_cast<double>(rate->hits) / static_cast<double>(rate->all));
    }
    std::printf("\n");
  }
  const absl::Status printed = PrintToEnd("");
  if (printed.ok()) return 0;
  std::fprintf(stderr, "hot_cache_hit_rate: %s\n", std::string(printed.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  engram::EnsureStandardStreams("hot_cache_hit_rate");
  if (argc < 4) {
    std::fprintf(stderr, "usage: hot_cache_hit_rate FAMILY TOKEN_MAP STREAM...\n");
    return 2;
  }
  return engram::Run(argv[1], argv[2], absl::MakeSpan(argv + 3, argc - 3));
}
