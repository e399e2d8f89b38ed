// Lookups of one table set side by side: embedded, through mapped shared memory, and over a ring.
//
// shm_compare --table-set DIR [--tokens 1,16,64,256,4096] [--seconds 2] prints for each batch size
// and way the median time of a batch and rows a second. The ways take turns within each round, so
// that a noisy machine is noisy for all. The owner is in this process; the set is loaded twice,
// shareable and then for the embedded client, onto the kind of pages that shared memory got.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transport/local/embedded_transport.h"
#include "client/transport/shm/shm_transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/splitmix64.h"
#include "memstore/store/table_set_registry.h"
#include "memstore/table/synthetic.h"
#include "server/shm/endpoint.h"

namespace engram {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kSeed = 20240601;

struct Way {
  std::string name;
  Transport* transport;
  std::vector<double> batch_us = {};
};

// One batch of `tokens`, another set of rows each time.
class Batches {
 public:
  Batches(const Manifest& manifest, uint64_t tokens) : manifest_(manifest) {
    const uint64_t rows = tokens * manifest.scheme.Columns();
    for (const LayerTableSpec& layer : manifest.layers) {
      ids_.emplace_back(rows);
      landings_.emplace_back(rows * layer.row_bytes);
    }
    for (size_t i = 0; i < ids_.size(); ++i) {
      layers_.push_back({.layer = manifest.layers[i].layer,
                         .row_ids = ids_[i],
                         .landing = {landings_[i].data()}});
    }
  }
  uint64_t rows() const { return ids_.size() * ids_[0].size(); }

  // Microseconds from Submit to the rows; negative when it failed.
  double Time(Transport& transport) {
    for (size_t i = 0; i < ids_.size(); ++i) {
      for (RowId& id : ids_[i]) id = SplitMix64Mix(kSeed + next_++) % manifest_.layers[i].rows;
    }
    const auto begin = Clock::now();
    const absl::StatusOr<Ticket> ticket = transport.Submit({.layers = layers_});
    if (!ticket.ok()) return -1;
    const absl::Status status = transport.Wait(*ticket);
    const auto end = Clock::now();
    transport.Reap(*ticket);
    return status.ok() ? std::chrono::duration<double, std::micro>(end - begin).count() : -1;
  }

 private:
  const Manifest& manifest_;
  uint64_t next_ = 0;
  std::vector<std::vector<RowId>> ids_;
  std::vector<std::vector<std::byte>> landings_;
  std::vector<LayerRequest> layers_;
};

double Median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

absl::Status Compare(std::vector<Way> ways, const std::vector<uint64_t>& tokens, double seconds) {
  const Manifest& manifest = ways[0].transport->table_set().manifest;
  for (const uint64_t count : tokens) {
    Batches batches(manifest, count);
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    for (size_t round = 0; round < 10 || Clock::now() < end; ++round) {
      for (Way& way : ways) {
        const double us = batches.Time(*way.transport);
        if (us < 0) return absl::InternalError(absl::StrCat(way.name, ": a lookup failed"));
        way.batch_us.push_back(us);
      }
    }
    const double embedded = Median(ways[0].batch_us);
    for (Way& way : ways) {
      const double us = Median(way.batch_us);
      std::printf("%6lu tokens  %-9s %10.1f us  %8.2f M rows/s  %5.2f of embedded\n", count,
                  way.name.c_str(), us, static_cast<double>(batches.rows()) / us, embedded / us);
      way.batch_us.clear();
    }
  }
  return absl::OkStatus();
}

absl::Status Run(const std::string& directory, const std::vector<uint64_t>& tokens,
                 double seconds) {
  LoadOptions options;
  options.arena.shareable = true;
  absl::StatusOr<std::shared_ptr<const TableSet>> shared = TableSet::Load(directory, options);
  if (!shared.ok()) return shared.status();
  options.arena.shareable = false;
  options.arena.try_hugetlb = (*shared)->page_kind() == PageKind::kHugetlb2M;
  options.arena.try_transparent_huge = (*shared)->page_kind() != PageKind::kSmall;
  absl::StatusOr<std::shared_ptr<const TableSet>> own = TableSet::Load(directory, options);
  if (!own.ok()) return own.status();
  std::printf("embedded on %s pages, shared on %s pages\n",
              std::string(Name((*own)->page_kind())).c_str(),
              std::string(Name((*shared)->page_kind())).c_str());
  TableSetRegistry registry;
  absl::Status status = registry.Publish(*std::move(shared));
  if (!status.ok()) return status;
  const std::string socket = absl::StrCat("/tmp/engram-shm-compare-", getpid());
  const auto endpoint = ShmEndpoint::Start(
      {.socket_path = socket, .max_batch_rows = 1 << 24, .clock = &RealClock()}, &registry);
  if (!endpoint.ok()) return endpoint.status();
  const auto mapped = ShmTransport::Attach(socket, "", absl::Seconds(10), "");
  if (!mapped.ok()) return mapped.status();
  const auto ring = ShmTransport::Attach(socket, "", absl::Seconds(10), "ring");
  if (!ring.ok()) return ring.status();
  const std::unique_ptr<Transport> embedded = EmbeddedTransport::Over(*std::move(own));
  return Compare({{"embedded", embedded.get()}, {"shm", mapped->get()}, {"shm-ring", ring->get()}},
                 tokens, seconds);
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  CLI::App app{"embedded, mapped and ring lookups side by side", "shm_compare"};
  std::string directory;
  std::vector<uint64_t> tokens = {1, 16, 64, 256, 4096};
  double seconds = 2;
  app.add_option("--table-set", directory, "a packed table set")->required();
  app.add_option("--tokens", tokens, "tokens of a batch")->delimiter(',');
  app.add_option("--seconds", seconds, "for each batch size");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = engram::Run(directory, tokens, seconds);
  if (status.ok()) return 0;
  std::fprintf(stderr, "shm_compare: %s\n", std::string(status.message()).c_str());
  return 1;
}
