// An owner of shared memory within a test: a small table set in a registry, and an endpoint that
// lends it; and the rows that it must give. Links no gRPC, so that ThreadSanitizer can run over it.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transport/shm/shm_transport.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/splitmix64.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/table_set_registry.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "server/shm/endpoint.h"

namespace engram::integration {

class ShmOwner {
 public:
  static constexpr uint64_t kRows = 20000;

  // Nothing runs yet: a test may fork first.
  explicit ShmOwner(bool shareable = true, uint32_t columns = 1) {
    char name[] = "/tmp/engram-shm-XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    const auto manifest = testing::WriteSmallTableSet(
        {.layers = {{.layer = 1, .rows = kRows}, {.layer = 14, .row_bytes = 110, .rows = kRows}},
         .with_token_map = true,
         .columns = columns},
        directory_ + "/set");
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    shareable_ = shareable;
  }
  ~ShmOwner() {
    endpoint_.reset();
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }

  void Load(const std::optional<Partition>& partition = std::nullopt) {
    LoadOptions options;
    options.partition = partition;
    options.threads = 2;
    options.arena.shareable = shareable_;
    auto set = TableSet::Load(directory_ + "/set", options);
    ASSERT_TRUE(set.ok()) << set.status();
    id_ = (*set)->id();
    ASSERT_TRUE(registry_.Publish(*std::move(set)).ok());
  }
  void Start() {
    auto endpoint = ShmEndpoint::Start(
        {.socket_path = socket(), .max_batch_rows = 1 << 20, .clock = &RealClock()}, &registry_);
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    endpoint_ = *std::move(endpoint);
  }
  void Stop() { endpoint_.reset(); }

  std::string socket() const { return directory_ + "/s"; }
  std::string set_directory() const { return directory_ + "/set"; }
  const std::string& id() const { return id_; }
  TableSetRegistry& registry() { return registry_; }
  ShmEndpoint& endpoint() { return *endpoint_; }

  std::unique_ptr<Transport> Attach(const std::string& mode) const {
    auto transport = ShmTransport::Attach(socket(), "", absl::Seconds(20), mode);
    EXPECT_TRUE(transport.ok()) << transport.status();
    return transport.ok() ? *std::move(transport) : nullptr;
  }

 private:
  std::string directory_;
  bool shareable_ = true;
  std::string id_;
  TableSetRegistry registry_;
  std::unique_ptr<ShmEndpoint> endpoint_;
};

// A batch of `rows` rows of each layer, the first in groups of 4 with a gap after each.
class ShmBatch {
 public:
  explicit ShmBatch(size_t rows, uint64_t seed = 1)
      : ids_(rows), rows1_((rows + 3) / 4 * kStride), rows14_(rows * 110) {
    for (size_t i = 0; i < rows; ++i) ids_[i] = SplitMix64Mix(seed + i) % ShmOwner::kRows;
    layers_ = {{.layer = 1, .row_ids = ids_, .landing = {rows1_.data(), 4, kStride}},
               {.layer = 14, .row_ids = ids_, .landing = {rows14_.data()}}};
  }

  absl::Status LookUp(Transport& transport, MonotonicTime deadline = MonotonicTime::Infinite()) {
    const absl::StatusOr<Ticket> ticket =
        transport.Submit({.layers = layers_, .deadline = deadline});
    if (!ticket.ok()) return ticket.status();
    absl::Status status = transport.Wait(*ticket);
    transport.Reap(*ticket);
    return status;
  }
  bool IsExact() const { return FirstLayerIsExact() && SecondLayerIsExact(); }
  bool FirstLayerIsExact() const {
    for (size_t i = 0; i < ids_.size(); ++i) {
      if (!IsSyntheticRow(1, ids_[i], {&rows1_[i / 4 * kStride + i % 4 * 264], 264})) return false;
    }
    return true;
  }
  bool SecondLayerIsExact() const {
    for (size_t i = 0; i < ids_.size(); ++i) {
      if (!IsSyntheticRow(14, ids_[i], {&rows14_[i * 110], 110})) return false;
    }
    return true;
  }
  const std::vector<LayerRequest>& layers() const { return layers_; }

 private:
  static constexpr uint64_t kStride = 4 * 264 + 40;
  std::vector<RowId> ids_;
  std::vector<std::byte> rows1_, rows14_;
  std::vector<LayerRequest> layers_;
};

}  // namespace engram::integration
