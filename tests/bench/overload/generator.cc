#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "memstore/table/manifest.h"
#include "proto/wire/lookup_messages.h"
#include "tests/bench/overload/load_client.h"
#include "tests/bench/overload/overload.h"

namespace engram::overload {
namespace {

constexpr size_t kBodies = 64;  // different batches, sent in turn
// Answers to what was sent last come within the deadline and this.
constexpr std::chrono::seconds kLastAnswers{2};

double Seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

Bodies MakeBodies(const Manifest& manifest, uint32_t tokens) {
  Bodies bodies;
  bodies.table_set_id = manifest.id;
  std::mt19937_64 random(20261126);
  for (size_t i = 0; i < kBodies; ++i) {
    std::string body;
    for (const LayerTableSpec& layer : manifest.layers) {
      std::vector<uint64_t> ids(tokens * manifest.scheme.Columns());
      for (uint64_t& id : ids) id = random() % layer.rows;
      const wire::RequestLayer part{.layer = layer.layer,
                                    .wide = layer.rows > std::numeric_limits<uint32_t>::max(),
                                    .ids = ids};
      const size_t before = body.size();
      body.resize(before + wire::RequestLayerBytes(part));
      wire::WriteRequestLayer(part, reinterpret_cast<uint8_t*>(body.data()) + before);
      if (i == 0) bodies.row_bytes += ids.size() * layer.row_bytes;
    }
    bodies.layers.emplace_back(body);
  }
  return bodies;
}

class QueueGenerator final : public Generator {
 public:
  explicit QueueGenerator(Bodies bodies) : bodies_(std::move(bodies)) {}
  ~QueueGenerator() override {
    for (const auto& client : clients_) client->End();
    const auto busy = [](const auto& client) { return client->events() > 0; };
    while (std::any_of(clients_.begin(), clients_.end(), busy))
      Take(Clock::now() + std::chrono::milliseconds(10));
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  absl::Status Open(const std::string& address, uint32_t clients, Way way) {
    for (uint32_t i = 0; i < clients; ++i) {
      clients_.push_back(way == Way::kStream ? MakeStreamClient(address, &bodies_, &queue_)
                                             : MakeUnaryClient(address, &bodies_, &queue_));
    }
    const Clock::time_point until = Clock::now() + std::chrono::seconds(10);
    const auto ready = [](const auto& client) { return client->ready(); };
    while (!std::all_of(clients_.begin(), clients_.end(), ready)) {
      if (Clock::now() > until)
        return absl::UnavailableError(absl::StrCat(address, ": no connection could be opened"));
      Take(std::min(until, Clock::now() + std::chrono::milliseconds(10)));
    }
    return absl::OkStatus();
  }

  double Capacity(uint32_t window, std::chrono::milliseconds time) override {
    const Clock::time_point begin = Clock::now();
    uint64_t before = 0;
    for (const auto& client : clients_) before += client->answered();
    while (Clock::now() - begin < time) {
      for (const auto& client : clients_) {
        while (client->waiting() < window) client->Add(Clock::now(), std::chrono::seconds(60));
      }
      Take(begin + time);
    }
    uint64_t answered = 0;
    for (const auto& client : clients_) answered += client->answered();
    const double seconds = Seconds(Clock::now() - begin);
    Settle(std::chrono::milliseconds(1000));
    for (const auto& client : clients_) client->TakeTally();
    return static_cast<double>(answered - before) / seconds;
  }

  std::vector<Tally> Run(const Load& load) override {
    const Clock::time_point begin = Clock::now(), end = begin + load.time;
    std::exponential_distribution<double> apart(1.0);
    std::vector<Clock::time_point> next;
    const auto later = [&](size_t i) {
      return std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(apart(random_) / load.batches_per_s[i]));
    };
    for (size_t i = 0; i < clients_.size(); ++i) next.push_back(begin + later(i));
    while (Clock::now() < end) {
      for (size_t i = 0; i < clients_.size(); ++i) {
        for (; next[i] <= Clock::now() && next[i] < end; next[i] += later(i))
          clients_[i]->Add(next[i], load.deadline);
      }
      Take(std::min(end, *std::min_element(next.begin(), next.end())));
    }
    Settle(load.deadline);
    std::vector<Tally> tallies;
    for (const auto& client : clients_) tallies.push_back(client->TakeTally());
    return tallies;
  }

 private:
  // Takes the events that there are, or waits for one.
  void Take(Clock::time_point until) {
    const auto wall = std::chrono::system_clock::now() + (until - Clock::now());
    void* tag = nullptr;
    bool ok = false;
    if (queue_.AsyncNext(&tag, &ok, wall) != grpc::CompletionQueue::GOT_EVENT) return;
    do {
      static_cast<LoadClient::Event*>(tag)->Happened(ok);
    } while (Clock::now() < until &&
             queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::time_point()) ==
                 grpc::CompletionQueue::GOT_EVENT);
  }
  void Settle(std::chrono::milliseconds deadline) {
    const Clock::time_point until = Clock::now() + deadline + kLastAnswers;
    const auto waits = [](const auto& client) { return client->waiting() > 0 && !client->over(); };
    while (Clock::now() < until && std::any_of(clients_.begin(), clients_.end(), waits))
      Take(until);
  }

  const Bodies bodies_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<LoadClient>> clients_;
  std::mt19937_64 random_{7};
};

}  // namespace

void Tally::Add(const Tally& other) {
  sent += other.sent;
  in_time += other.in_time;
  late += other.late;
  rejected += other.rejected;
  expired += other.expired;
  failed += other.failed;
  ok_us.insert(ok_us.end(), other.ok_us.begin(), other.ok_us.end());
  rejected_us.insert(rejected_us.end(), other.rejected_us.begin(), other.rejected_us.end());
  if (failure.empty()) failure = other.failure;
}

absl::StatusOr<std::unique_ptr<Generator>> Generator::Connect(const std::string& address,
                                                              uint32_t clients, uint32_t tokens,
                                                              Way way) {
  const auto sdk = engram::Client::Attach(absl::StrCat("grpc:", address), {});
  if (!sdk.ok()) return sdk.status();
  auto generator = std::make_unique<QueueGenerator>(MakeBodies((*sdk)->table_set(), tokens));
  if (absl::Status status = generator->Open(address, clients, way); !status.ok()) return status;
  return generator;
}

}  // namespace engram::overload
