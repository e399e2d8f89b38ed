#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <random>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "memstore/table/manifest.h"
#include "proto/wire/lookup_messages.h"
#include "tests/bench/overload/overload.h"

namespace engram::overload {
namespace {

using Clock = std::chrono::steady_clock;
using RawStub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;
using RawStream = grpc::ClientAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

constexpr char kMethod[] = "/engram.v1.Lookup/LookupStream";
constexpr size_t kBodies = 64;  // different batches, sent in turn
constexpr uint32_t kResourceExhausted = static_cast<uint32_t>(grpc::RESOURCE_EXHAUSTED);
constexpr uint32_t kDeadlineExceeded = static_cast<uint32_t>(grpc::DEADLINE_EXCEEDED);
// Answers to what was sent last come within the deadline and this.
constexpr std::chrono::seconds kLastAnswers{2};

double Seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }
float Microseconds(Clock::duration time) { return static_cast<float>(1e6 * Seconds(time)); }

struct Bodies {
  std::string table_set_id;
  std::vector<grpc::Slice> layers;  // what follows a request's head
  uint64_t row_bytes = 0;           // of a batch's answer
};

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

// One client: a connection, a stream, the batches it waits for.
class StreamClient {
 public:
  struct Event {
    void (StreamClient::*method)(bool);
    StreamClient* client;
  };

  StreamClient(const std::string& address, const Bodies* bodies, grpc::CompletionQueue* queue)
      : bodies_(bodies), stub_(OwnChannel(address)) {
    stream_ = stub_.PrepareCall(&context_, kMethod, queue);
    stream_->StartCall(&started_);
    ++events_;
  }

  bool ready() const { return ready_; }
  bool over() const { return over_; }
  int events() const { return events_; }
  size_t waiting() const { return due_.size() + sent_.size(); }
  uint64_t answered() const { return answered_; }
  Tally TakeTally() { return std::exchange(tally_, {}); }

  void Add(Clock::time_point due, Clock::duration deadline) {
    ++tally_.sent;
    due_.push_back({due, due + deadline});
    Write();
  }
  void End() {
    if (!over_) context_.TryCancel();
  }

 private:
  struct Times {
    Clock::time_point due, deadline;
  };

  // gRPC shares connections between channels that are alike.
  static std::shared_ptr<grpc::Channel> OwnChannel(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }

  void OnStarted(bool ok) {
    --events_;
    if (!ok) return OnOver();
    ready_ = true;
    Read();
    Write();
  }
  void Read() {
    ++events_;
    stream_->Read(&message_, &read_);
  }
  void OnRead(bool ok) {
    --events_;
    if (!ok) return OnOver();
    slices_.clear();
    chain_.clear();
    if (message_.Dump(&slices_).ok()) {
      for (const grpc::Slice& slice : slices_) chain_.push_back({slice.begin(), slice.size()});
    }
    if (reply_.Parse(chain_)) Take();
    Read();
  }
  void OnWritten(bool ok) {
    --events_;
    writing_ = false;
    if (ok) Write();
  }
  void OnOver() { over_ = true; }

  void Write() {
    const Clock::time_point now = Clock::now();
    for (; !due_.empty() && due_.front().deadline <= now; due_.pop_front()) ++tally_.expired;
    if (!ready_ || over_ || writing_ || due_.empty()) return;
    const Times times = due_.front();
    due_.pop_front();
    const uint64_t id = next_id_++;
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(times.deadline - now);
    const wire::RequestHead head{
        .table_set_id = bodies_->table_set_id,
        .batch_id = id,
        .timeout_us = std::max<uint64_t>(1, static_cast<uint64_t>(left.count())),
        .cancel = false};
    const grpc::Slice first(wire::RequestHeadBytes(head));
    wire::WriteRequestHead(head, const_cast<uint8_t*>(first.begin()));
    const grpc::Slice both[] = {first, bodies_->layers[id % kBodies]};
    sent_.emplace(id, Sent{times, 0});
    writing_ = true;
    ++events_;
    stream_->Write(grpc::ByteBuffer(both, 2), &written_);
  }

  void Take() {
    const auto at = sent_.find(reply_.batch_id);
    if (at == sent_.end()) return Fail("an answer to what was not asked");
    for (const auto& layer : reply_.layers) at->second.rows_bytes += layer.rows.size;
    if (reply_.code == 0 && !reply_.last) return;
    const Clock::time_point now = Clock::now();
    const Times times = at->second.times;
    if (reply_.code == kResourceExhausted && reply_.retry_after_ms > 0) {
      ++tally_.rejected;
      tally_.rejected_us.push_back(Microseconds(now - times.due));
    } else if (reply_.code == kDeadlineExceeded) {
      ++tally_.expired;
    } else if (reply_.code != 0) {
      Fail(reply_.message);
    } else if (at->second.rows_bytes != bodies_->row_bytes) {
      Fail("an answer that ended early");
    } else {
      ++(now <= times.deadline ? tally_.in_time : tally_.late);
      ++answered_;
      tally_.ok_us.push_back(Microseconds(now - times.due));
    }
    sent_.erase(at);
  }
  void Fail(const std::string& why) {
    ++tally_.failed;
    if (tally_.failure.empty()) tally_.failure = why;
  }

  struct Sent {
    Times times;
    uint64_t rows_bytes = 0;
  };

  const Bodies* const bodies_;
  RawStub stub_;
  grpc::ClientContext context_;
  std::unique_ptr<RawStream> stream_;
  Event started_{&StreamClient::OnStarted, this}, read_{&StreamClient::OnRead, this},
      written_{&StreamClient::OnWritten, this};
  int events_ = 0;
  bool ready_ = false, writing_ = false, over_ = false;
  uint64_t next_id_ = 1, answered_ = 0;
  std::deque<Times> due_;  // not written yet
  std::unordered_map<uint64_t, Sent> sent_;
  grpc::ByteBuffer message_;
  std::vector<grpc::Slice> slices_;
  std::vector<wire::Bytes> chain_;
  wire::LookupResponse reply_;
  Tally tally_;
};

class StreamGenerator final : public Generator {
 public:
  explicit StreamGenerator(Bodies bodies) : bodies_(std::move(bodies)) {}
  ~StreamGenerator() override {
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

  absl::Status Open(const std::string& address, uint32_t clients) {
    for (uint32_t i = 0; i < clients; ++i) {
      clients_.push_back(std::make_unique<StreamClient>(address, &bodies_, &queue_));
    }
    const Clock::time_point until = Clock::now() + std::chrono::seconds(10);
    const auto ready = [](const auto& client) { return client->ready(); };
    while (!std::all_of(clients_.begin(), clients_.end(), ready)) {
      if (Clock::now() > until)
        return absl::UnavailableError(absl::StrCat(address, ": no stream could be opened"));
      Take(until);
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
      auto* const event = static_cast<StreamClient::Event*>(tag);
      (event->client->*event->method)(ok);
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
  std::vector<std::unique_ptr<StreamClient>> clients_;
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
                                                              uint32_t clients, uint32_t tokens) {
  const auto sdk = engram::Client::Attach(absl::StrCat("grpc:", address), {});
  if (!sdk.ok()) return sdk.status();
  auto generator = std::make_unique<StreamGenerator>(MakeBodies((*sdk)->table_set(), tokens));
  if (absl::Status status = generator->Open(address, clients); !status.ok()) return status;
  return generator;
}

}  // namespace engram::overload
