// engram's own paths, and the hand-tuned gather over the very memory of the embedded one.
//
// engram_contender --table-set DIR [--path NAME=TARGET[,MODE]]...
//   "gather" and "embedded" are there by themselves; other paths are what the SDK attaches to.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/client.h"
#include "client/transport/local/embedded_transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/splitmix64.h"
#include "memstore/store/table_set.h"
#include "tests/bench/compare/contender.h"
#include "tests/bench/gather_ceiling.h"

namespace engram::bench {
namespace {

constexpr absl::Duration kBatchDeadline = absl::Seconds(30);
// Batches of up to so many tokens have the loop that is best for one token.
constexpr uint64_t kFewTokens = 16;
constexpr int kSweepRounds = 9;

class TransportLane final : public Lane {
 public:
  // A client of its own, or one that is shared where the table is in this process.
  explicit TransportLane(std::shared_ptr<Client> client) : client_(std::move(client)) {}

  absl::Status Begin(size_t slot, const Batch& batch) override {
    std::array<LayerRequest, kLayers> layers;
    const Manifest& manifest = client_->table_set();
    for (size_t l = 0; l < kLayers; ++l) {
      layers[l] = {.layer = manifest.layers[l].layer,
                   .row_ids = {batch.ids[l], batch.layer_rows()},
                   .landing = {.data = batch.layer_landing(l)}};
    }
    const absl::StatusOr<Ticket> ticket =
        client_->Submit({.layers = layers, .deadline = RealClock().Now() + kBatchDeadline});
    if (!ticket.ok()) return ticket.status();
    tickets_[slot] = *ticket;
    return absl::OkStatus();
  }
  absl::Status End(size_t slot, const Batch&) override {
    absl::Status status = client_->Wait(tickets_[slot]);
    client_->Reap(tickets_[slot]);
    return status;
  }

 private:
  const std::shared_ptr<Client> client_;
  std::array<Ticket, kMaxInFlight> tickets_;
};

class EmbeddedContender final : public Contender {
 public:
  explicit EmbeddedContender(std::shared_ptr<Client> client) : client_(std::move(client)) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    return std::make_unique<TransportLane>(client_);
  }

 private:
  const std::shared_ptr<Client> client_;
};

class TargetContender final : public Contender {
 public:
  TargetContender(std::string target, std::string mode) : target_(std::move(target)) {
    options_.mode = std::move(mode);
  }
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Attach(target_, options_);
    if (!client.ok()) return client.status();
    return std::make_unique<TransportLane>(*std::move(client));
  }

 private:
  const std::string target_;
  AttachOptions options_;
};

using Tables = std::array<GatherTable, kLayers>;

// The best of the hand-tuned loops at batches of so many rows, taken turn by turn.
Loop BestLoop(const GatherTable& table, size_t rows) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::byte> landing(rows * kRowBytes);
  std::vector<uint32_t> ids(rows);
  const std::vector<HandTunedLoop> loops = HandTunedLoops(kRowBytes);
  std::vector<std::vector<double>> times(loops.size());
  const size_t batches = std::max<size_t>(1, 12288 / rows);
  uint64_t draw = 0;
  for (int round = 0; round < kSweepRounds; ++round) {
    for (size_t i = 0; i < loops.size(); ++i) {
      Clock::duration took{0};
      for (size_t b = 0; b < batches; ++b) {
        for (uint32_t& id : ids) id = static_cast<uint32_t>(SplitMix64Mix(draw++) % table.rows);
        const auto begin = Clock::now();
        loops[i].run(table.base, ids.data(), rows, landing.data());
        took += Clock::now() - begin;
      }
      times[i].push_back(std::chrono::duration<double>(took).count());
    }
  }
  size_t best = 0;
  for (size_t i = 0; i < loops.size(); ++i) {
    std::nth_element(times[i].begin(), times[i].begin() + kSweepRounds / 2, times[i].end());
    if (times[i][kSweepRounds / 2] < times[best][kSweepRounds / 2]) best = i;
  }
  return loops[best].run;
}

class GatherContender final : public Contender {
 public:
  explicit GatherContender(const Tables& tables)
      : tables_(tables),
        few_(BestLoop(tables[0], kColumns)),
        many_(BestLoop(tables[0], 64 * kColumns)) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override { return std::make_unique<Own>(this); }

 private:
  class Own final : public Lane {
   public:
    explicit Own(const GatherContender* contender) : contender_(*contender) {}
    absl::Status Begin(size_t, const Batch& batch) override {
      const Loop loop = batch.tokens <= kFewTokens ? contender_.few_ : contender_.many_;
      for (size_t l = 0; l < kLayers; ++l) {
        loop(contender_.tables_[l].base, batch.ids32[l], batch.layer_rows(),
             batch.layer_landing(l));
      }
      return absl::OkStatus();
    }
    absl::Status End(size_t, const Batch&) override { return absl::OkStatus(); }

   private:
    const GatherContender& contender_;
  };

  const Tables tables_;
  const Loop few_;
  const Loop many_;
};

struct Loaded {
  Layers layers;
  Contenders contenders;
};

absl::StatusOr<Loaded> LoadOwn(const std::string& directory) {
  absl::StatusOr<std::shared_ptr<const TableSet>> set = TableSet::Load(directory, {});
  if (!set.ok()) return set.status();
  Loaded loaded;
  Tables tables;
  const std::vector<LoadedLayer>& layers = (*set)->layers();
  if (layers.size() != kLayers) {
    return absl::InvalidArgumentError(absl::StrCat(directory, " is not of V4.1's family"));
  }
  for (size_t l = 0; l < kLayers; ++l) {
    tables[l] = layers[l].table;
    if (tables[l].row_bytes != kRowBytes) {
      return absl::InvalidArgumentError(absl::StrCat(directory, " is not of V4.1's family"));
    }
    loaded.layers[l] = {.number = layers[l].layer, .rows = tables[l].rows};
  }
  if (HandTunedLoops(kRowBytes).empty()) {
    return absl::FailedPreconditionError(
        "this processor has no AVX2, which the gather ceiling needs");
  }
  absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Create(EmbeddedTransport::Over(*std::move(set)));
  if (!client.ok()) return client.status();
  // The tables live as long as the client beside it.
  loaded.contenders["gather"] = std::make_unique<GatherContender>(tables);
  loaded.contenders["embedded"] = std::make_unique<EmbeddedContender>(*std::move(client));
  return loaded;
}

int Main(int argc, char** argv) {
  CLI::App app("engram's own paths and the hand-tuned gather, for compare.py");
  std::string directory;
  std::vector<std::string> paths;
  app.add_option("--table-set", directory, "the table set of the embedded path")->required();
  app.add_option("--path", paths, "NAME=TARGET[,MODE]")->allow_extra_args(false);
  CLI11_PARSE(app, argc, argv);
  absl::StatusOr<Loaded> loaded = LoadOwn(directory);
  if (!loaded.ok()) return Failed("engram_contender", loaded.status());
  for (const std::string& path : paths) {
    const std::pair<std::string, std::string> named = absl::StrSplit(path, absl::MaxSplits('=', 1));
    const std::pair<std::string, std::string> target =
        absl::StrSplit(named.second, absl::MaxSplits(',', 1));
    loaded->contenders[named.first] =
        std::make_unique<TargetContender>(target.first, target.second);
  }
  return ServeRounds("engram_contender", std::move(loaded->contenders), loaded->layers);
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
