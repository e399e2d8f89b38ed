#include "tests/demo/plain_rows.h"

#include <cstring>
#include <fstream>
#include <iterator>

namespace engram::demo {
namespace {

uint64_t PlainMix(uint64_t v) {
  v = v + 0x9E3779B97F4A7C15ull;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9ull;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EBull;
  return v ^ (v >> 31);
}

}  // namespace

std::vector<int32_t> ReadInts(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<int32_t> ints(bytes.size() / sizeof(int32_t));
  std::memcpy(ints.data(), bytes.data(), ints.size() * sizeof(int32_t));
  return ints;
}

absl::Status CheckPlain(const AddressScheme& scheme) {
  if (scheme.combine == Combine::kXorOfProducts && !scheme.reset_token_id) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "only families of the XOR kind without a reset token are checked here");
}

void MapIds(const AddressScheme& scheme, const std::string& directory, std::vector<int32_t>* ids) {
  if (!scheme.token_map) return;
  const std::vector<int32_t> map = ReadInts(directory + "/" + scheme.token_map->file);
  for (int32_t& id : *ids) id = map.at(id);
}

uint64_t PlainRow(const AddressScheme& scheme, const LayerAddressing& layer, uint32_t column,
                  absl::Span<const int32_t> ids, size_t position) {
  const uint32_t order = column / scheme.heads_per_order + 2;
  uint64_t mix = 0;
  for (uint32_t k = 0; k < order; ++k) {
    const uint64_t id = k <= position ? ids[position - k] : scheme.pad_id;
    mix ^= id * static_cast<uint64_t>(layer.multipliers[k]);
  }
  return mix % layer.moduli[column] + layer.offsets[column];
}

bool IsPlainRow(uint32_t layer, uint64_t row_id, const unsigned char* row, uint32_t row_bytes) {
  for (uint32_t at = 0; at < row_bytes; at += 8) {
    const uint64_t word = PlainMix((static_cast<uint64_t>(layer) << 48) ^
                                   (static_cast<uint64_t>(at / 8) << 40) ^ row_id);
    for (uint32_t byte = 0; byte < 8 && at + byte < row_bytes; ++byte) {
      if (row[at + byte] != static_cast<unsigned char>(word >> (8 * byte))) return false;
    }
  }
  return true;
}

}  // namespace engram::demo
