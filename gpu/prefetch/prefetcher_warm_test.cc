// What a warm step costs the engine: no allocation in any thread, and on its stream one wait and
// four bytes copied a layer, nothing that the host waits for.
#include <atomic>

#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"

namespace engram {
namespace {

using testing::CopyingPlaceRows;
using testing::LayerSaw;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallStep;
using testing::Soon;

constexpr uint32_t kMaxTokens = 64;
constexpr int kSteps = 100;

void RunStep(PrefetchFixture& fixture, const SmallStep& step) {
  const auto ticket = fixture.prefetcher->Prefetch(step.Request(Soon()));
  ASSERT_TRUE(ticket.ok());
  LayerSaw saw[2] = {};
  for (size_t layer : {0, 1}) {
    ASSERT_TRUE(fixture.RunLayer(*ticket, layer, step, &saw[layer]).ok());
  }
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  ASSERT_TRUE(fixture.prefetcher->Finish(*ticket).ok());
  ASSERT_EQ(saw[1], LayerSaw::kExactRows);
}

TEST(PrefetcherWarm, NothingAllocates) {
  for (const bool separate : {false, true}) {
    for (const FetchPath path : {FetchPath::kTransport, FetchPath::kMapped}) {
      for (const bool distinct : {false, true}) {
        if (distinct && path == FetchPath::kMapped) continue;
        std::atomic<int> calls{0};
        PrefetchWay way{.separate_memory = separate};
        way.options = {.max_tokens = kMaxTokens, .path = path, .distinct = distinct};
        if (distinct) {
          way.options.place_rows = CopyingPlaceRows(&calls);
          way.options.placed_row_bytes = 264;
        }
        PrefetchFixture fixture(way);
        std::mt19937 random(1);
        SmallStep largest = RandomStep(kMaxTokens, random);
        while (largest.tokens() < kMaxTokens / 2) largest = RandomStep(kMaxTokens, random);
        for (uint32_t i = 0; i < way.options.slots; ++i) RunStep(fixture, largest);
        const uint64_t before = testing::Allocations();
        for (int i = 0; i < kSteps; ++i) RunStep(fixture, largest);
        EXPECT_EQ(testing::Allocations(), before)
            << "separate " << separate << " mapped " << (path == FetchPath::kMapped) << " distinct "
            << distinct;
      }
    }
  }
}

TEST(PrefetcherWarm, NothingAllocatesWithAHotCache) {
  // One that holds all but little, and one that changes its mind all the time.
  for (const uint64_t bytes : {4096 * 8 * 264, 8 * 8 * 264}) {
    PrefetchWay way{.separate_memory = true};
    way.options = {.max_tokens = kMaxTokens, .hot_cache_bytes = bytes};
    PrefetchFixture fixture(way);
    std::mt19937 random(1);
    const SmallStep steps[] = {RandomStep(kMaxTokens, random), RandomStep(kMaxTokens, random)};
    for (int i = 0; i < 8; ++i) RunStep(fixture, steps[i % 2]);
    const uint64_t before = testing::Allocations();
    for (int i = 0; i < kSteps; ++i) RunStep(fixture, steps[i % 2]);
    EXPECT_EQ(testing::Allocations(), before) << bytes;
  }
}

TEST(PrefetcherWarm, NothingAllocatesWithSlices) {
  for (const testing::NamedSlices& slices : testing::SmallSlices()) {
    for (const uint64_t hot_cache_bytes : {0, 100 * 8 * 264}) {
      PrefetchWay way{.separate_memory = true};
      way.options = {
          .max_tokens = kMaxTokens, .slices = slices.slices, .hot_cache_bytes = hot_cache_bytes};
      PrefetchFixture fixture(way);
      std::mt19937 random(1);
      const SmallStep steps[] = {RandomStep(kMaxTokens, random), RandomStep(kMaxTokens, random)};
      for (int i = 0; i < 8; ++i) RunStep(fixture, steps[i % 2]);
      const uint64_t before = testing::Allocations();
      for (int i = 0; i < kSteps; ++i) RunStep(fixture, steps[i % 2]);
      EXPECT_EQ(testing::Allocations(), before) << slices.name << " " << hot_cache_bytes;
    }
  }
}

// A stream of an engine's that counts what is asked of it.
class CountingStream : public Stream {
 public:
  absl::Status Copy(void*, const void*, size_t bytes) override {
    copied_bytes += bytes;
    ++copies;
    return absl::OkStatus();
  }
  absl::Status WaitWord(const std::atomic<uint32_t>*, WordTest, uint32_t) override {
    ++waits;
    return absl::OkStatus();
  }
  absl::Status Record(Event&) override { return Other(); }
  absl::Status WaitEvent(Event&) override { return Other(); }
  absl::Status CallHost(void (*)(void*), void*) override { return Other(); }
  absl::Status Synchronize() override { return Other(); }
  absl::Status BeginCapture() override { return Other(); }
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture() override { return Other(); }
  bool capturing() const override { return false; }
  absl::Status Launch(Graph&) override { return Other(); }
  void* native() const override { return nullptr; }

  int waits = 0;
  int copies = 0;
  size_t copied_bytes = 0;
  int others = 0;

 protected:
  absl::Status EnqueueKernel(void (*)(const void*), const void*, size_t) override {
    return Other();
  }

 private:
  absl::Status Other() {
    ++others;
    return absl::UnimplementedError("not on an engine's stream");
  }
};

TEST(PrefetcherWarm, TheEnginesStreamWaitsAndIsNeverWaitedFor) {
  PrefetchWay way{.separate_memory = true};
  way.options.max_tokens = kMaxTokens;
  PrefetchFixture fixture(way);
  std::mt19937 random(2);
  CountingStream stream;
  for (int i = 0; i < kSteps; ++i) {
    const SmallStep step = RandomStep(kMaxTokens, random);
    const StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
    for (uint32_t layer : {1, 14}) {
      ASSERT_TRUE(fixture.prefetcher->Wait(ticket, layer, stream).ok());
    }
    ASSERT_TRUE(fixture.prefetcher->Finish(ticket).ok());
  }
  EXPECT_EQ(stream.waits, 2 * kSteps);
  EXPECT_EQ(stream.copies, 2 * kSteps);
  EXPECT_EQ(stream.copied_bytes, sizeof(uint32_t) * 2 * kSteps);
  EXPECT_EQ(stream.others, 0);
}

}  // namespace
}  // namespace engram
