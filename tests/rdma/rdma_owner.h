// An engramd within a test that serves a small table set over RDMA, the batches that it must give,
// and what the kernel says of RDMA objects.
#pragma once

#include <spdlog/sinks/null_sink.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/transport/rdma/rdma_transport.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/splitmix64.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "server/engramd.h"

namespace engram::rdma {

inline constexpr uint64_t kRows = 20000;
inline constexpr uint32_t kColumns = 4;  // of 5,000 rows each
inline constexpr uint32_t kRowBytes[] = {264, 112};
inline constexpr uint32_t kLayers[] = {1, 14};

// A table set in a directory of its own.
class SetDirectory {
 public:
  SetDirectory() {
    char name[] = "/tmp/engram-rdma-XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    std::filesystem::permissions(directory_, std::filesystem::perms(0755));
    const auto manifest =
        testing::WriteSmallTableSet({.layers = {{.layer = 1, .row_bytes = 264, .rows = kRows},
                                                {.layer = 14, .row_bytes = 112, .rows = kRows}},
                                     .columns = kColumns},
                                    path());
    EXPECT_TRUE(manifest.ok()) << manifest.status();
  }
  ~SetDirectory() {
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }
  std::string path() const { return directory_ + "/set"; }

 private:
  std::string directory_;
};

inline std::string Device() { return std::getenv("RDMA_DEV"); }

class RdmaOwner {
 public:
  explicit RdmaOwner(const std::vector<std::string>& devices = {Device()},
                     const std::optional<Partition>& partition = std::nullopt) {
    ServerConfig config;
    config.partition = partition;
    config.table_sets = {set_.path()};
    config.listen = {{.host = "127.0.0.1", .port = "0", .unix_path = {}}};
    config.load_threads = 2;
    for (const std::string& device : devices) config.rdma_devices.push_back({.device = device});
    config.rdma_read = true;
    auto engramd = Engramd::Load(
        config,
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>()),
        &RealClock());
    EXPECT_TRUE(engramd.ok()) << engramd.status();
    engramd_ = *std::move(engramd);
    EXPECT_TRUE(engramd_->Listen().ok());
    EXPECT_TRUE(engramd_->Accept().ok());
  }
  std::string address() const { return engramd_->addresses().front(); }
  std::string set_directory() const { return set_.path(); }
  const RdmaEndpoint& endpoint() const { return *engramd_->rdma(); }
  Engramd& engramd() { return *engramd_; }

  std::unique_ptr<Transport> Attach(bool reads = false, bool resend = true) const {
    auto transport = RdmaTransport::Attach(address(), "", {.reads = reads, .resend = resend});
    EXPECT_TRUE(transport.ok()) << transport.status();
    return transport.ok() ? *std::move(transport) : nullptr;
  }

 private:
  const SetDirectory set_;
  std::unique_ptr<Engramd> engramd_;
};

// How the layers of a batch lie in its buffer.
enum class Layout {
  kLayers,  // one after the other
  kTokens,  // [tokens, layers, columns]: layers that fill each group together
  kGaps,    // groups with a gap after each
};

// A batch of `rows` rows of each layer (a multiple of 4), with a canary around what lands.
class Batch {
 public:
  static constexpr uint64_t kGroup = 4;

  explicit Batch(size_t rows, Layout layout = Layout::kLayers, uint64_t seed = 1)
      : ids_(rows), buffer_(kCanary + Bytes(rows, layout) + kCanary, std::byte{0xA5}) {
    for (size_t i = 0; i < rows; ++i) ids_[i] = SplitMix64Mix(seed + i) % kRows;
    std::byte* at = buffer_.data() + kCanary;
    for (size_t l = 0; l < 2; ++l) {
      Landing landing{.data = at};
      if (layout == Layout::kLayers) {
        at += rows * kRowBytes[l];
      } else if (layout == Layout::kTokens) {
        landing = {at, kGroup, kGroup * (kRowBytes[0] + kRowBytes[1])};
        at += kGroup * kRowBytes[l];
      } else {
        landing = {at, kGroup, kGroup * kRowBytes[l] + kGap};
        at += rows / kGroup * (kGroup * kRowBytes[l] + kGap);
      }
      layers_.push_back({.layer = kLayers[l], .row_ids = ids_, .landing = landing});
    }
  }

  absl::Span<std::byte> buffer() { return absl::MakeSpan(buffer_); }
  const std::vector<LayerRequest>& layers() const { return layers_; }
  absl::Status Register(Transport& transport) { return transport.Register(buffer()); }
  absl::Status LookUp(Transport& transport, absl::Duration time = absl::Seconds(60)) {
    const absl::StatusOr<Ticket> ticket =
        transport.Submit({.layers = layers_, .deadline = RealClock().Now() + time});
    if (!ticket.ok()) return ticket.status();
    absl::Status status = transport.Wait(*ticket);
    transport.Reap(*ticket);
    return status;
  }
  void Clear() { std::fill(buffer_.begin(), buffer_.end(), std::byte{0xA5}); }
  // Every row is right and no other byte has changed.
  bool IsExact() const {
    std::vector<std::byte> expected(buffer_.size(), std::byte{0xA5});
    for (size_t l = 0; l < 2; ++l) {
      const Landing& landing = layers_[l].landing;
      for (size_t i = 0; i < ids_.size(); ++i) {
        const uint64_t group = landing.group_rows == 0 ? 0 : i / landing.group_rows;
        const uint64_t in_group = landing.group_rows == 0 ? i : i % landing.group_rows;
        SyntheticRow(kLayers[l], ids_[i],
                     {expected.data() + (landing.data - buffer_.data()) +
                          group * landing.group_stride_bytes + in_group * kRowBytes[l],
                      kRowBytes[l]});
      }
    }
    return expected == buffer_;
  }
  bool IsUntouched() const {
    return std::all_of(buffer_.begin(), buffer_.end(),
                       [](std::byte byte) { return byte == std::byte{0xA5}; });
  }

 private:
  static constexpr uint64_t kCanary = 4096, kGap = 40;
  static uint64_t Bytes(size_t rows, Layout layout) {
    return rows * (kRowBytes[0] + kRowBytes[1]) +
           (layout == Layout::kGaps ? 2 * rows / kGroup * kGap : 0);
  }
  std::vector<RowId> ids_;
  std::vector<std::byte> buffer_;
  std::vector<LayerRequest> layers_;
};

// What all processes hold of the device: the numbers of `rdma resource show`.
struct Resources {
  int domains = -1, completion_queues = -1, queue_pairs = -1, regions = -1;
  friend bool operator==(const Resources&, const Resources&) = default;

  static Resources Now() {
    Resources now;
    FILE* const pipe = popen("rdma resource show", "r");
    char line[256] = {};
    if (fgets(line, sizeof(line), pipe) != nullptr) {
      std::sscanf(line, "%*d: %*s pd %d cq %d qp %d cm_id %*d mr %d", &now.domains,
                  &now.completion_queues, &now.queue_pairs, &now.regions);
    }
    pclose(pipe);
    return now;
  }
  // Waits until they are what they were; false when they are not in time.
  bool ComesBack(absl::Duration time = absl::Seconds(20)) const {
    const MonotonicTime begin = RealClock().Now();
    while (!(Now() == *this)) {
      if (RealClock().Now() - begin > time) return false;
      absl::SleepFor(absl::Milliseconds(50));
    }
    std::fprintf(stderr, "freed after %.1f s\n", absl::ToDoubleSeconds(RealClock().Now() - begin));
    return true;
  }
};

}  // namespace engram::rdma
