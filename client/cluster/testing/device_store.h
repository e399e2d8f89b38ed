// The faster way to a store, whose rows come as a test says: written by a device, which does not
// ask, and may be late; or, mapped, within Submit.
//
// A device writes for a request until it is answered, or until the connection is cut, whatever
// became of the ticket. Whoever is asked while a device may write to the same memory says so
// (Writers). Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/cluster/testing/hand_stores.h"
#include "client/transport/failure_mark.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram::testing {

// The places of memory that devices may write to at this moment.
class Writers {
 public:
  void Begin(const std::byte* place) {
    MutexLock lock(mutex_);
    if (!places_.insert(place).second) ++collisions_;
  }
  void End(const std::byte* place) {
    MutexLock lock(mutex_);
    places_.erase(place);
  }
  size_t open() {
    MutexLock lock(mutex_);
    return places_.size();
  }
  // How often memory was given to a device that another one might write to.
  int collisions() {
    MutexLock lock(mutex_);
    return collisions_;
  }

 private:
  Mutex mutex_;
  std::set<const std::byte*> places_ ABSL_GUARDED_BY(mutex_);
  int collisions_ ABSL_GUARDED_BY(mutex_) = 0;
};

class DeviceStore final : public TicketedTransport {
 public:
  // `is_mapped`: rows are there when Submit returns.
  DeviceStore(Clock& clock, Writers* writers, bool is_mapped = false)
      : TicketedTransport(
            {.clock = &clock, .owner = "a device", .reap_patience = absl::ZeroDuration()}),
        capabilities_{.name = is_mapped ? "mapped" : "device",
                      .lands_asynchronously = !is_mapped,
                      .max_batch_rows = 1 << 20,
                      .lands_at_places = is_mapped},
        writers_(*writers) {}
  ~DeviceStore() override { ReapAll(); }

  size_t requests() {
    MutexLock lock(requests_mutex_);
    return requests_.size();
  }
  bool is_cut() {
    MutexLock lock(requests_mutex_);
    return is_cut_;
  }
  size_t registered() {
    MutexLock lock(requests_mutex_);
    return registered_.size();
  }
  // What Submit, or Register, returns from now on.
  void Refuse(absl::Status status) {
    MutexLock lock(requests_mutex_);
    refusal_ = std::move(status);
  }
  // The device writes what the request asks for, if it still can: false where the connection is
  // cut, or it was answered.
  bool Write(size_t number) {
    Request& request = At(number);
    if (!request.is_open) return false;
    for (const Layer& layer : request.layers) {
      for (size_t i = 0; i < layer.ids.size(); ++i) {
        FillRow(layer.request.layer, layer.ids[i], layer.request.landing.PlaceOf(i, kHandRowBytes));
      }
    }
    return true;
  }
  // It answers for a piece of a request that is not whole yet.
  void AnswerAPiece() { ++answers_; }
  // Writes, and says so.
  bool Answer(size_t number) {
    if (!Write(number)) return false;
    Request& request = At(number);
    Close(request);
    TicketLock lock(*this);
    for (size_t i = 0; i < request.layers.size(); ++i) LandLayer(*request.batch, i);
    EndWrite(*request.batch);
    return true;
  }
  // An error of one thing of the request's, while another may still be written.
  void FailWith(size_t number, absl::Status status) {
    TicketLock lock(*this);
    Fail(*At(number).batch, std::move(status));
  }
  // The rest is answered, too.
  void EndRequest(size_t number) {
    Close(At(number));
    TicketLock lock(*this);
    EndWrite(*At(number).batch);
  }
  // As a queue pair that goes to error: nothing is written from its return on.
  void Break() {
    TicketLock lock(*this);
    Cut();
  }

  uint64_t AnswersTaken() const override { return answers_; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return table_set_; }
  absl::Status Register(absl::Span<std::byte> buffer) override {
    MutexLock lock(requests_mutex_);
    if (!refusal_.ok()) return refusal_;
    registered_.insert(buffer.data());
    return absl::OkStatus();
  }
  absl::Status Unregister(absl::Span<std::byte> buffer) override {
    MutexLock lock(requests_mutex_);
    registered_.erase(buffer.data());
    return absl::OkStatus();
  }

 private:
  struct Layer {
    LayerRequest request;
    std::vector<RowId> ids;
  };
  struct Request {
    TicketRef<TicketedBatch> batch;
    std::vector<Layer> layers;
    bool is_open = true;
  };

  absl::Status Prepare(const BatchRequest& batch) override {
    {
      MutexLock lock(requests_mutex_);
      if (is_cut_) return Cause();
      if (!refusal_.ok()) return refusal_;
    }
    if (capabilities_.lands_asynchronously) return absl::OkStatus();
    for (const LayerRequest& layer : batch.layers) {
      for (size_t i = 0; i < layer.row_ids.size(); ++i) {
        FillRow(layer.layer, layer.row_ids[i], layer.landing.PlaceOf(i, kHandRowBytes));
      }
    }
    MutexLock lock(requests_mutex_);
    requests_.emplace_back().is_open = false;
    return absl::OkStatus();
  }
  absl::Status Start(const BatchRequest& batch, TicketedBatch& ticketed) override {
    Request request;
    request.batch = TicketRef<TicketedBatch>(&ticketed);
    for (const LayerRequest& one : batch.layers) {
      if (!one.landing.places.empty()) return absl::UnimplementedError("a list of places");
      request.layers.push_back({one, {one.row_ids.begin(), one.row_ids.end()}});
      writers_.Begin(one.landing.data);
    }
    {
      TicketLock lock(*this);
      BeginWrite(ticketed);
    }
    MutexLock lock(requests_mutex_);
    requests_.push_back(std::move(request));
    return absl::OkStatus();
  }
  void StopWriters(TicketedBatch& batch) override {
    TicketLock lock(*this);
    if (batch.writers() > 0) Cut();
  }
  void Cut() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<Request*> open;
    {
      MutexLock lock(requests_mutex_);
      is_cut_ = true;
      for (Request& request : requests_) {
        if (request.is_open) open.push_back(&request);
      }
    }
    for (Request* const request : open) {
      Close(*request);
      EndAllWrites(*request->batch);
      Fail(*request->batch, Cause());
    }
  }
  void Close(Request& request) {
    for (const Layer& layer : request.layers) writers_.End(layer.request.landing.data);
    request.is_open = false;
  }
  static absl::Status Cause() {
    absl::Status status = absl::UnavailableError("the queue pair is in error");
    MarkBroken(&status);
    return status;
  }
  Request& At(size_t number) {
    MutexLock lock(requests_mutex_);
    return requests_[number];
  }

  const Capabilities capabilities_;
  const AttachedTableSet table_set_;
  Writers& writers_;
  std::atomic<uint64_t> answers_{0};
  Mutex requests_mutex_;  // after mutex_
  std::deque<Request> requests_ ABSL_GUARDED_BY(requests_mutex_);
  bool is_cut_ ABSL_GUARDED_BY(requests_mutex_) = false;
  std::set<const std::byte*> registered_ ABSL_GUARDED_BY(requests_mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(requests_mutex_);
};

}  // namespace engram::testing
