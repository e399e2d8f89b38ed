#include "tests/integration/small_sets.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/base/clock.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/table/synthetic.h"

namespace engram::integration {

ScratchDirectory::ScratchDirectory() {
  char name[] = "/tmp/engram-test-XXXXXX";
  EXPECT_NE(mkdtemp(name), nullptr);
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void PackSmallSet(const std::string& family, uint64_t rows_per_head, const std::string& directory) {
  const absl::StatusOr<const Family*> found = FindFamily(family);
  ASSERT_TRUE(found.ok()) << found.status();
  PackOptions options;
  options.output = directory;
  options.rows_per_head = rows_per_head;
  if ((*found)->compressed_vocab_size > 0) {
    options.token_map_file = family == "deepseek-v4.1-flash"
                                 ? "tests/golden/deepseek_v41_token_map.i32"
                                 : "tests/golden/deepseek_v3_token_map.i32";
  }
  const absl::StatusOr<Manifest> packed = PackSynthetic(**found, options);
  ASSERT_TRUE(packed.ok()) << packed.status();
}

std::vector<int32_t> RealTokenIds(size_t count) {
  std::vector<int32_t> ids(count);
  std::ifstream file(kTokenStream, std::ios::binary);
  file.read(reinterpret_cast<char*>(ids.data()), count * sizeof(int32_t));
  EXPECT_TRUE(file.good()) << kTokenStream;
  return ids;
}

uint64_t TokenBytes(const Manifest& manifest) {
  uint64_t bytes = 0;
  for (const LayerTableSpec& layer : manifest.layers) {
    bytes += uint64_t{manifest.scheme.Columns()} * layer.row_bytes;
  }
  return bytes;
}

std::vector<Landing> DenseLandings(const Manifest& manifest, std::byte* rows) {
  std::vector<Landing> landings;
  uint64_t offset = 0;
  for (const LayerTableSpec& layer : manifest.layers) {
    landings.push_back({.data = rows + offset,
                        .group_rows = manifest.scheme.Columns(),
                        .group_stride_bytes = TokenBytes(manifest)});
    offset += uint64_t{manifest.scheme.Columns()} * layer.row_bytes;
  }
  return landings;
}

std::string ExpectedRows(const Manifest& manifest, const Addresser& addresser,
                         absl::Span<const int32_t> token_ids) {
  const uint32_t columns = manifest.scheme.Columns();
  std::string rows(token_ids.size() * TokenBytes(manifest), '\0');
  char* layer_begin = rows.data();
  for (uint32_t i = 0; i < manifest.layers.size(); ++i) {
    std::vector<RowId> ids(token_ids.size() * columns);
    const LayerRowIdsOutput output{.layer_index = i, .rows = ids.data(), .token_stride = columns};
    const absl::Status status = addresser.Address(Addresser::Start(), token_ids, {}, {&output, 1});
    EXPECT_TRUE(status.ok()) << status;
    const uint32_t row_bytes = manifest.layers[i].row_bytes;
    for (size_t t = 0; t < token_ids.size(); ++t) {
      char* at = layer_begin + t * TokenBytes(manifest);
      for (uint32_t c = 0; c < columns; ++c, at += row_bytes) {
        SyntheticRow(manifest.layers[i].layer, ids[t * columns + c],
                     {reinterpret_cast<std::byte*>(at), row_bytes});
      }
    }
    layer_begin += uint64_t{columns} * row_bytes;
  }
  return rows;
}

absl::StatusOr<std::string> LookUp(Client& client, absl::Span<const int32_t> token_ids,
                                   MonotonicTime deadline) {
  Client::Plan plan;
  absl::Status status = client.PlanTokens(Addresser::Start(), token_ids, {}, &plan);
  if (!status.ok()) return status;
  std::string rows(token_ids.size() * TokenBytes(client.table_set()), '\xA5');
  const absl::Span<std::byte> buffer(reinterpret_cast<std::byte*>(rows.data()), rows.size());
  status = client.transport().Register(buffer);  // which RDMA alone needs
  if (!status.ok()) return status;
  const absl::StatusOr<Ticket> ticket =
      client.Submit(plan, DenseLandings(client.table_set(), buffer.data()), deadline);
  status = ticket.status();
  if (ticket.ok()) {
    status = client.Wait(*ticket);
    client.Reap(*ticket);
  }
  status.Update(client.transport().Unregister(buffer));
  if (!status.ok()) return status;
  return rows;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace engram::integration
