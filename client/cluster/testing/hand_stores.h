// Stores of a cluster that answer when and as a test says, and what they say of themselves.
//
// Thread-safe. A store takes row ids, and tokens where it has an addresser. Its rows are FillRow's;
// they are copied as a gRPC store's transport copies them: past the gate, layer after layer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cluster/store_directory.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/addressing/addresser.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/base/status_macros.h"
#include "memstore/cluster/store_state.h"

namespace engram::testing {

inline constexpr uint32_t kHandRowBytes = 16;

inline void FillRow(uint32_t layer, RowId id, std::byte* row) {
  const uint64_t words[2] = {layer, id + 1};
  std::memcpy(row, words, sizeof(words));
}

// The transport to one store.
class HandStore final : public TicketedTransport {
 public:
  // `addresser`: of tokens, which it takes then.
  explicit HandStore(Clock& clock, std::shared_ptr<const Addresser> addresser = nullptr)
      : TicketedTransport({.clock = &clock, .owner = "a store"}),
        addresser_(std::move(addresser)),
        capabilities_{.name = "hand",
                      .lands_asynchronously = true,
                      .max_batch_rows = 1 << 20,
                      .max_sequence_tokens = addresser_ == nullptr ? 0u : 1u << 20,
                      .lands_at_places = true,
                      .token_slices = true,
                      .tokens_at_places = true} {}
  ~HandStore() override { ReapAll(); }

  // Requests that came, whatever became of them; by their number from 0.
  size_t requests() {
    MutexLock lock(requests_mutex_);
    return requests_.size();
  }
  size_t cancels() {
    MutexLock lock(requests_mutex_);
    return cancels_;
  }
  std::vector<uint32_t> LayersOf(size_t request) {
    MutexLock lock(requests_mutex_);
    std::vector<uint32_t> layers;
    for (const Layer& layer : requests_[request].layers) layers.push_back(layer.request.layer);
    return layers;
  }
  bool IsByTokens(size_t request) {
    MutexLock lock(requests_mutex_);
    return requests_[request].is_by_tokens;
  }
  // What Submit returns from now on, unless OK.
  void Refuse(absl::Status status) {
    MutexLock lock(requests_mutex_);
    refusal_ = std::move(status);
  }
  // Rows of the layers that have not come yet, `layers` of them at most. False: they were not
  // wanted.
  bool Answer(size_t number, size_t layers = SIZE_MAX) {
    Request* const request = Find(number);
    for (; layers > 0 && request->at < request->layers.size(); --layers) {
      if (!LandOne(*request)) return false;
    }
    return true;
  }
  void FailWith(size_t number, absl::Status status) {
    TicketLock lock(*this);
    Fail(*Find(number)->batch, std::move(status));
  }

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return table_set_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }

 private:
  struct Layer {
    LayerRequest request;
    std::vector<RowId> ids;
    std::vector<uint32_t> places;
  };
  struct Request {
    TicketRef<TicketedBatch> batch;
    LandingGate* gate = nullptr;
    uint64_t tag = 0;
    bool is_by_tokens = false;
    std::vector<Layer> layers;
    size_t at = 0;
  };

  absl::Status Prepare(const BatchRequest&) override {
    MutexLock lock(requests_mutex_);
    return refusal_;
  }
  absl::Status Start(const BatchRequest& batch, TicketedBatch& ticketed) override {
    auto request = std::make_unique<Request>();
    request->batch = TicketRef<TicketedBatch>(&ticketed);
    request->gate = batch.gate;
    request->tag = batch.gate_tag;
    for (const LayerRequest& one : batch.layers) {
      Layer& layer = request->layers.emplace_back();
      layer.request = one;
      layer.ids.assign(one.row_ids.begin(), one.row_ids.end());
      layer.places.assign(one.landing.places.begin(), one.landing.places.end());
    }
    for (Layer& layer : request->layers) layer.request.landing.places = layer.places;
    if (batch.tokens != nullptr) ENGRAM_RETURN_IF_ERROR(Address(*batch.tokens, request.get()));
    MutexLock lock(requests_mutex_);
    requests_.push_back(std::move(*request));
    return absl::OkStatus();
  }
  absl::Status Address(const TokenBatch& tokens, Request* request) const {
    request->is_by_tokens = true;
    const AddressScheme& scheme = addresser_->scheme();
    std::vector<ColumnSlice> slices(tokens.slices.begin(), tokens.slices.end());
    slices.resize(request->layers.size(), ColumnSlice::All(scheme.Columns()));
    std::vector<LayerRowIdsOutput> outputs;
    for (size_t i = 0; i < slices.size(); ++i) {
      Layer& layer = request->layers[i];
      const auto at = std::find_if(scheme.layers.begin(), scheme.layers.end(),
                                   [&](const auto& l) { return l.layer == layer.request.layer; });
      layer.ids.resize(tokens.token_ids.size() * slices[i].columns());
      outputs.push_back({.layer_index = static_cast<uint32_t>(at - scheme.layers.begin()),
                         .rows = layer.ids.data(),
                         .token_stride = slices[i].columns(),
                         .slice = &slices[i]});
    }
    return addresser_->AddressSequences(tokens.sequences, tokens.token_ids, tokens.dead, outputs);
  }
  void TryCancel(TicketedBatch&) override {
    MutexLock lock(requests_mutex_);
    ++cancels_;
  }
  Request* Find(size_t number) {
    MutexLock lock(requests_mutex_);
    return &requests_[number];
  }
  bool LandOne(Request& request) {
    {
      TicketLock lock(*this);
      if (!BeginWrite(*request.batch)) return false;
    }
    const bool may = request.gate == nullptr || request.gate->BeginLanding(request.tag);
    const Layer& layer = request.layers[request.at];
    if (may) {
      for (size_t i = 0; i < layer.ids.size(); ++i) {
        FillRow(layer.request.layer, layer.ids[i], layer.request.landing.PlaceOf(i, kHandRowBytes));
      }
      if (request.gate != nullptr) request.gate->EndLanding(request.tag);
    }
    TicketLock lock(*this);
    if (may) {
      LandLayer(*request.batch, request.at++);
    } else {
      Fail(*request.batch, absl::CancelledError("its rows are wanted no more"));
    }
    EndWrite(*request.batch);
    return may;
  }

  const std::shared_ptr<const Addresser> addresser_;
  const Capabilities capabilities_;
  const AttachedTableSet table_set_;
  Mutex requests_mutex_;
  std::deque<Request> requests_ ABSL_GUARDED_BY(requests_mutex_);
  size_t cancels_ ABSL_GUARDED_BY(requests_mutex_) = 0;
  absl::Status refusal_ ABSL_GUARDED_BY(requests_mutex_);
};

class HandDirectory final : public StoreDirectory {
 public:
  explicit HandDirectory(std::vector<StoreState> heard) : heard_(std::move(heard)) {}

  void Say(std::vector<StoreState> heard) {
    {
      MutexLock lock(mutex_);
      heard_ = std::move(heard);
    }
    MutexLock lock(listener_mutex_);
    if (listener_ != nullptr) listener_->HoldingsChanged();
  }
  void Speak(const std::string& address) {
    MutexLock lock(listener_mutex_);
    if (listener_ != nullptr) listener_->StoreSpoke(address);
  }
  std::vector<StoreState> Heard() const override {
    MutexLock lock(mutex_);
    return heard_;
  }
  void SetListener(Listener* listener) override {
    MutexLock lock(listener_mutex_);
    listener_ = listener;
  }

 private:
  mutable Mutex mutex_;
  std::vector<StoreState> heard_ ABSL_GUARDED_BY(mutex_);
  Mutex listener_mutex_;
  Listener* listener_ ABSL_GUARDED_BY(listener_mutex_) = nullptr;
};

}  // namespace engram::testing
