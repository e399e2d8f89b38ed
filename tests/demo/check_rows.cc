// Checks looked-up rows of a synthetic table set against a second, plain implementation.
//
//   engram lookup ... --output - | check_rows --table-set DIR --token-ids FILE
//
// Reads raw rows [tokens, layers, columns * row_bytes] from standard input. Every row is compared
// with the synthetic rule at the address that plain arithmetic gives (plain_rows.h). Prints one
// JSON object: tokens, rows, bytes. Exit code 1 names the first row that is wrong.

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "memstore/table/manifest.h"
#include "tests/demo/plain_rows.h"

namespace {

using engram::AddressScheme;
using engram::Manifest;
using engram::demo::IsPlainRow;
using engram::demo::PlainRow;

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
  const absl::Status is_plain = engram::demo::CheckPlain(scheme);
  if (!is_plain.ok()) return Fail(std::string(is_plain.message()));
  std::vector<int32_t> ids = engram::demo::ReadInts(argv[4]);
  engram::demo::MapIds(scheme, directory, &ids);

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
        if (!IsPlainRow(table.layer, row_id, row.data(), table.row_bytes)) {
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
