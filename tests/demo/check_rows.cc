// Checks looked-up rows of a synthetic table set against a second, plain implementation.
//
//   engram lookup ... --output - | check_rows --table-set DIR --token-ids FILE
//
// Reads raw rows [tokens, layers, columns * row_bytes] from standard input. Every row is compared
// with the synthetic rule at the address that plain arithmetic gives (`%`, no reciprocals, no
// shared code with memstore/addressing but the manifest's constants). Prints one JSON object:
// tokens, rows, bytes. Exit code 1 names the first row that is wrong.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "memstore/table/manifest.h"

namespace {

using engram::AddressScheme;
using engram::LayerAddressing;
using engram::Manifest;

std::vector<int32_t> ReadInts(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<int32_t> ints(bytes.size() / sizeof(int32_t));
  std::memcpy(ints.data(), bytes.data(), ints.size() * sizeof(int32_t));
  return ints;
}

// Row of column `column` at `position`, by the book: no window state, no tables made beforehand.
uint64_t PlainRow(const AddressScheme& scheme, const LayerAddressing& layer, uint32_t column,
                  const std::vector<int32_t>& ids, size_t position) {
  const uint32_t order = column / scheme.heads_per_order + 2;
  uint64_t mix = 0;
  for (uint32_t k = 0; k < order; ++k) {
    const uint64_t id = k <= position ? ids[position - k] : scheme.pad_id;
    mix ^= id * static_cast<uint64_t>(layer.multipliers[k]);
  }
  return mix % layer.moduli[column] + layer.offsets[column];
}

uint64_t PlainMix(uint64_t v) {
  v = v + 0x9E3779B97F4A7C15ull;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9ull;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EBull;
  return v ^ (v >> 31);
}

bool IsRow(uint32_t layer, uint64_t row_id, const unsigned char* row, uint32_t row_bytes) {
  for (uint32_t at = 0; at < row_bytes; at += 8) {
    const uint64_t word = PlainMix((static_cast<uint64_t>(layer) << 48) ^
                                   (static_cast<uint64_t>(at / 8) << 40) ^ row_id);
    for (uint32_t byte = 0; byte < 8 && at + byte < row_bytes; ++byte) {
      if (row[at + byte] != static_cast<unsigned char>(word >> (8 * byte))) return false;
    }
  }
  return true;
}

int Fail(const std::string& message) {
  std::fprintf(stderr, "check_rows: %s\n", message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || std::string(argv[1]) != "--table-set" || std::string(argv[3]) != "--token-ids") {
    std::fprintf(stderr, "usage: check_rows --table-set DIR --token-ids FILE < ROWS\n");
    return 2;
  }
  const std::string directory = argv[2];
  const absl::StatusOr<Manifest> manifest = engram::LoadManifest(directory);
  if (!manifest.ok()) return Fail(std::string(manifest.status().message()));
  const AddressScheme& scheme = manifest->scheme;
  if (scheme.combine != engram::Combine::kXorOfProducts || scheme.reset_token_id) {
    return Fail("only families of the XOR kind without a reset token are checked here");
  }
  std::vector<int32_t> ids = ReadInts(argv[4]);
  if (scheme.token_map) {
    const std::vector<int32_t> map = ReadInts(directory + "/" + scheme.token_map->file);
    for (int32_t& id : ids) id = map.at(id);
  }

  uint64_t rows = 0, bytes = 0;
  std::vector<unsigned char> row(engram::kMaxRowBytes);
  for (size_t position = 0; position < ids.size(); ++position) {
    for (size_t l = 0; l < manifest->layers.size(); ++l) {
      const auto& table = manifest->layers[l];
      for (uint32_t column = 0; column < scheme.Columns(); ++column) {
        const uint64_t row_id = PlainRow(scheme, scheme.layers[l], column, ids, position);
        if (std::fread(row.data(), 1, table.row_bytes, stdin) != table.row_bytes) {
          return Fail("the rows end at token " + std::to_string(position));
        }
        if (!IsRow(table.layer, row_id, row.data(), table.row_bytes)) {
          return Fail("token " + std::to_string(position) + ", layer " +
                      std::to_string(table.layer) + ", column " + std::to_string(column) +
                      ": these are not the bytes of row " + std::to_string(row_id));
        }
        ++rows;
        bytes += table.row_bytes;
      }
    }
  }
  if (std::fgetc(stdin) != EOF) return Fail("there are more rows than tokens ask for");
  std::printf("{\"tokens\": %zu, \"rows\": %llu, \"bytes\": %llu}\n", ids.size(),
              static_cast<unsigned long long>(rows), static_cast<unsigned long long>(bytes));
  return 0;
}
