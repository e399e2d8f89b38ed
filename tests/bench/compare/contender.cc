#include "tests/bench/compare/contender.h"

#include <pthread.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "memstore/base/splitmix64.h"
#include "memstore/os/malloc_tuning.h"
#include "memstore/table/synthetic.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Ids of a layer and client: a row comes back after half a gigabyte of others at the least.
constexpr size_t kPoolIds = size_t{1} << 20;
constexpr uint64_t kPoolSeed = 20261125;
constexpr uint64_t kMaxClients = 8;
// Connections, frequencies and caches wake up before the clock starts.
constexpr std::chrono::milliseconds kWarmUp{4};

struct Round {
  std::string name;
  uint64_t tokens = 0;
  size_t clients = 0;
  size_t in_flight = 0;
  std::chrono::milliseconds time{0};
};

// Row ids of one client, drawn before and taken in a circle.
class IdPool {
 public:
  IdPool(const Layers& layers, uint64_t client) {
    for (size_t l = 0; l < kLayers; ++l) {
      ids_[l].resize(kPoolIds);
      ids32_[l].resize(kPoolIds);
      for (size_t i = 0; i < kPoolIds; ++i) {
        const uint64_t draw = SplitMix64Mix(kPoolSeed + (client * kLayers + l) * kPoolIds + i);
        ids_[l][i] = draw % layers[l].rows;
        ids32_[l][i] = static_cast<uint32_t>(ids_[l][i]);
      }
    }
  }
  Batch Next(uint64_t tokens, std::byte* landing) {
    const size_t count = tokens * kColumns;
    if (at_ + count > kPoolIds) at_ = 0;
    Batch batch{.tokens = tokens, .ids = {}, .ids32 = {}, .landing = landing};
    for (size_t l = 0; l < kLayers; ++l) {
      batch.ids[l] = &ids_[l][at_];
      batch.ids32[l] = &ids32_[l][at_];
    }
    at_ += count;
    return batch;
  }

 private:
  std::array<std::vector<uint64_t>, kLayers> ids_;
  std::array<std::vector<uint32_t>, kLayers> ids32_;
  size_t at_ = 0;
};

// What a client keeps from round to round, whichever contender runs.
struct ClientMemory {
  ClientMemory(const Layers& layers, uint64_t client) : pool(layers, client) {}
  IdPool pool;
  std::array<std::vector<std::byte>, kMaxInFlight> landings;
};

// The batches of one client in one round.
class ClientRound {
 public:
  ClientRound(const Round& round, Lane* lane, ClientMemory* memory)
      : round_(round), lane_(lane), memory_(memory) {
    const uint64_t bytes = round.tokens * kTokenBytes;
    for (size_t i = 0; i < round.in_flight; ++i) {
      if (memory->landings[i].size() < bytes) memory->landings[i].resize(bytes);
    }
  }

  // `start` holds all clients until each is warm.
  absl::Status Run(std::barrier<>& start) {
    absl::Status status = RunFor(kWarmUp, 1);
    us_.clear();
    start.arrive_and_wait();
    if (!status.ok()) return status;
    return RunFor(round_.time, round_.in_flight);
  }

  // Whether the last batch has its rows.
  absl::Status Check(const Layers& layers) const {
    for (size_t l = 0; l < kLayers; ++l) {
      const std::byte* const rows = last_.layer_landing(l);
      for (uint64_t i = 0; i < last_.layer_rows(); ++i) {
        if (IsSyntheticRow(layers[l].number, last_.ids[l][i], {rows + i * kRowBytes, kRowBytes})) {
          continue;
        }
        return absl::DataLossError(absl::StrCat(round_.name, " returned a wrong row ",
                                                last_.ids[l][i], " of layer ", layers[l].number));
      }
    }
    return absl::OkStatus();
  }

  const std::vector<double>& us() const { return us_; }
  double seconds() const { return seconds_; }

 private:
  absl::Status RunFor(Clock::duration time, uint64_t least_batches) {
    const auto begin = Clock::now();
    uint64_t begun = 0;
    uint64_t ended = 0;
    while (true) {
      const bool more = begun < least_batches || Clock::now() - begin < time;
      if (!more && begun == ended) break;
      if (more && begun - ended < round_.in_flight) {
        const size_t slot = begun++ % round_.in_flight;
        slots_[slot] = memory_->pool.Next(round_.tokens, memory_->landings[slot].data());
        begun_[slot] = Clock::now();
        absl::Status status = lane_->Begin(slot, slots_[slot]);
        if (!status.ok()) return status;
        if (begun - ended < round_.in_flight) continue;
      }
      const size_t slot = ended++ % round_.in_flight;
      absl::Status status = lane_->End(slot, slots_[slot]);
      if (!status.ok()) return status;
      us_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begun_[slot]).count());
      last_ = slots_[slot];
    }
    seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
    return absl::OkStatus();
  }

  const Round& round_;
  Lane* const lane_;
  ClientMemory* const memory_;
  std::array<Batch, kMaxInFlight> slots_;
  std::array<Clock::time_point, kMaxInFlight> begun_;
  Batch last_;
  std::vector<double> us_;
  double seconds_ = 0;
};

class Program {
 public:
  Program(Contenders contenders, const Layers& layers)
      : contenders_(std::move(contenders)), layers_(layers) {}

  absl::StatusOr<std::string> Run(const Round& round) {
    const auto found = contenders_.find(round.name);
    if (found == contenders_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("there is no contender ", round.name));
    }
    if (absl::Status status = Grow(round, *found->second); !status.ok()) return status;
    std::vector<std::unique_ptr<ClientRound>> clients;
    for (size_t i = 0; i < round.clients; ++i) {
      clients.push_back(
          std::make_unique<ClientRound>(round, lanes_[round.name][i].get(), memories_[i].get()));
    }
    std::vector<absl::Status> statuses(round.clients);
    std::barrier<> start(static_cast<ptrdiff_t>(round.clients));
    std::vector<std::thread> threads;
    for (size_t i = 0; i < round.clients; ++i) {
      threads.emplace_back([&, i] { statuses[i] = clients[i]->Run(start); });
      pthread_setname_np(threads.back().native_handle(), "contender");
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < round.clients; ++i) {
      if (statuses[i].ok() && found->second->lands_rows()) statuses[i] = clients[i]->Check(layers_);
      if (!statuses[i].ok()) return statuses[i];
    }
    return Summary(round, clients);
  }

 private:
  absl::Status Grow(const Round& round, Contender& contender) {
    while (memories_.size() < round.clients) {
      memories_.push_back(std::make_unique<ClientMemory>(layers_, memories_.size()));
    }
    std::vector<std::unique_ptr<Lane>>& lanes = lanes_[round.name];
    while (lanes.size() < round.clients) {
      absl::StatusOr<std::unique_ptr<Lane>> lane = contender.NewLane();
      if (!lane.ok()) return lane.status();
      lanes.push_back(*std::move(lane));
    }
    return absl::OkStatus();
  }

  static std::string Summary(const Round& round,
                             const std::vector<std::unique_ptr<ClientRound>>& clients) {
    std::vector<double> us;
    double batches_per_s = 0;
    for (const auto& client : clients) {
      us.insert(us.end(), client->us().begin(), client->us().end());
      batches_per_s += static_cast<double>(client->us().size()) / client->seconds();
    }
    std::sort(us.begin(), us.end());
    const nlohmann::ordered_json line = {
        {"batches", us.size()},
        {"p50_us", us[us.size() / 2]},
        {"p99_us", us[us.size() * 99 / 100]},
        {"rows_per_s", batches_per_s * static_cast<double>(round.tokens * kTokenRows)}};
    return line.dump();
  }

  const Contenders contenders_;
  const Layers layers_;
  std::vector<std::unique_ptr<ClientMemory>> memories_;
  std::map<std::string, std::vector<std::unique_ptr<Lane>>> lanes_;  // gone before contenders_
};

absl::StatusOr<Round> ParseRound(const std::string& line) {
  Round round;
  int64_t milliseconds = 0;
  std::istringstream words(line);
  words >> round.name >> round.tokens >> round.clients >> round.in_flight >> milliseconds;
  round.time = std::chrono::milliseconds(milliseconds);
  if (words.fail() || round.tokens < 1 || round.tokens > kMaxTokens || round.clients < 1 ||
      round.clients > kMaxClients || round.in_flight < 1 || round.in_flight > kMaxInFlight) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", line, "\" is no round: NAME TOKENS CLIENTS IN_FLIGHT MILLISECONDS, at most ",
        kMaxTokens, " tokens, ", kMaxClients, " clients, ", kMaxInFlight, " in flight"));
  }
  return round;
}

}  // namespace

absl::StatusOr<Layers> ParseLayers(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  Layers layers;
  bool good = parts.size() == kLayers;
  for (size_t l = 0; good && l < kLayers; ++l) {
    const std::vector<std::string> words = absl::StrSplit(parts[l], ':');
    good = words.size() == 2 && absl::SimpleAtoi(words[0], &layers[l].number) &&
           absl::SimpleAtoi(words[1], &layers[l].rows) && layers[l].rows > 0 &&
           layers[l].rows <= UINT32_MAX;
  }
  if (good) return layers;
  return absl::InvalidArgumentError(
      absl::StrCat("--layers ", text, " is not NUMBER:ROWS,NUMBER:ROWS"));
}

uint64_t TotalRows(const Layers& layers) {
  uint64_t rows = 0;
  for (const Layer& layer : layers) rows += layer.rows;
  return rows;
}

void FillRow(const Layers& layers, uint64_t key, absl::Span<std::byte> row) {
  const bool second = key >= layers[0].rows;
  SyntheticRow(layers[second].number, second ? key - layers[0].rows : key, row);
}

int Failed(const std::string& program, const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", program.c_str(), std::string(status.message()).c_str());
  return 1;
}

int ServeRounds(const std::string& program, Contenders contenders, const Layers& layers) {
  KeepFreedMemory();  // as the programs that are delivered do
  Program runs(std::move(contenders), layers);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const absl::StatusOr<Round> round = ParseRound(line);
    if (!round.ok()) return Failed(program, round.status());
    const absl::StatusOr<std::string> answer = runs.Run(*round);
    if (!answer.ok()) return Failed(program, answer.status());
    std::cout << *answer << std::endl;
  }
  return 0;
}

}  // namespace engram::bench
