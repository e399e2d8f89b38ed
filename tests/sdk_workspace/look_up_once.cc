// A program of another workspace: attaches to a target and fetches the rows of three tokens, of the
// first half of the heads, as a tensor-parallel rank does.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "engram/client/client.h"
#include "engram/memstore/addressing/head_slice.h"

int main(int argc, char** argv) {
  const auto client = engram::Client::Attach(argc > 1 ? argv[1] : "", {});
  if (!client.ok()) return std::puts(client.status().ToString().c_str()), 1;
  const engram::Manifest& set = (*client)->table_set();
  const auto slice = engram::SliceOfHeads(set.scheme, 0, set.scheme.heads_per_order / 2);
  if (!slice.ok()) return std::puts(slice.status().ToString().c_str()), 1;
  const std::vector<engram::ColumnSlice> slices(set.layers.size(), *slice);
  const std::vector<int32_t> token_ids = {1, 2, 3};
  std::vector<std::vector<std::byte>> rows;
  std::vector<engram::Landing> landings;
  for (const engram::LayerTableSpec& layer : set.layers) {
    rows.emplace_back(token_ids.size() * slice->columns() * layer.row_bytes);
    landings.push_back({.data = rows.back().data()});
  }
  engram::Client::Plan plan;
  const auto ticket = (*client)->Prefetch(engram::Addresser::Start(), token_ids, {}, landings,
                                          engram::MonotonicTime::Infinite(), &plan, slices);
  const absl::Status status = ticket.ok() ? (*client)->Wait(*ticket) : ticket.status();
  std::printf("%s: %s\n", set.id.c_str(), status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
