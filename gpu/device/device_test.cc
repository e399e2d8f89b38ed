#include "gpu/device/device.h"

#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gpu/device/cuda_device.h"
#include "gpu/device/host_device.h"
#include "gpu/device/status_word.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

MonotonicTime Soon() { return RealClock().Now() + absl::Seconds(30); }

std::unique_ptr<Device> Host(const DeviceOptions& options = {}) {
  return OpenDevice(DeviceKind::kHost, options).value();
}

// A word that streams of a device wait for.
struct Word {
  explicit Word(Device& device)
      : device(device), memory(device.Allocate(MemoryKind::kPinnedHost, 4).value()) {}
  std::atomic<uint32_t>& value() { return *memory.as<std::atomic<uint32_t>>(); }
  void Set(uint32_t to) {
    value().store(to, std::memory_order_release);
    device.WordChanged(value());
  }
  Device& device;
  DeviceBuffer memory;
};

TEST(HostStream, RunsInOrder) {
  const auto device = Host();
  const auto stream = device->MakeStream("test").value();
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(stream->LaunchOnHost([&order, i] { order.push_back(i); }).ok());
  }
  ASSERT_TRUE(stream->Synchronize().ok());
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(HostStream, CopiesAndCallsTheHost) {
  const auto device = Host();
  const auto stream = device->MakeStream("test").value();
  DeviceBuffer from = device->Allocate(MemoryKind::kPinnedHost, 1000).value();
  const DeviceBuffer to = device->Allocate(MemoryKind::kDevice, 1000).value();
  std::memset(from.data(), 7, from.size());
  int called = 0;
  ASSERT_TRUE(stream->Copy(to.data(), from.data(), 1000).ok());
  ASSERT_TRUE(stream->CallHost([](void* count) { ++*static_cast<int*>(count); }, &called).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(std::memcmp(to.data(), from.data(), 1000), 0);
  EXPECT_EQ(called, 1);
}

TEST(HostStream, WaitsForAWordAndNobodyElseDoes) {
  for (const absl::Duration spin : {absl::ZeroDuration(), absl::Milliseconds(1)}) {
    const auto device = Host({.spin = spin});
    const auto stream = device->MakeStream("test").value();
    Word word(*device);
    std::atomic<bool> ran{false};
    ASSERT_TRUE(stream->WaitWord(&word.value(), WordTest::kAtLeast, 9).ok());
    ASSERT_TRUE(stream->LaunchOnHost([&ran] { ran = true; }).ok());
    word.Set(8);
    absl::SleepFor(absl::Milliseconds(5));
    EXPECT_FALSE(ran);
    word.Set(10);
    ASSERT_TRUE(stream->Synchronize().ok());
    EXPECT_TRUE(ran);
  }
}

TEST(HostStream, ComparesWordsCyclically) {
  const auto device = Host();
  const auto stream = device->MakeStream("test").value();
  Word word(*device);
  word.Set(2);  // behind the largest one by three
  ASSERT_TRUE(stream->WaitWord(&word.value(), WordTest::kAtLeast, UINT32_MAX).ok());
  ASSERT_TRUE(stream->WaitWord(&word.value(), WordTest::kAnyBit, 2).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
}

TEST(HostStream, MeetsAnotherThroughAnEvent) {
  const auto device = Host();
  const auto first = device->MakeStream("first").value();
  const auto second = device->MakeStream("second").value();
  const auto event = device->MakeEvent().value();
  EXPECT_TRUE(event->Wait(MonotonicTime()).ok()) << "not recorded counts as passed";
  Word word(*device);
  int value = 0;
  int seen = 0;
  ASSERT_TRUE(first->WaitWord(&word.value(), WordTest::kAnyBit, 1).ok());
  ASSERT_TRUE(first->LaunchOnHost([&value] { value = 5; }).ok());
  ASSERT_TRUE(first->Record(*event).ok());
  ASSERT_TRUE(second->WaitEvent(*event).ok());
  ASSERT_TRUE(second->LaunchOnHost([&seen, &value] { seen = value; }).ok());
  EXPECT_EQ(event->Wait(RealClock().Now() + absl::Milliseconds(2)).code(),
            absl::StatusCode::kDeadlineExceeded);
  word.Set(1);
  EXPECT_TRUE(event->Wait(Soon()).ok());
  ASSERT_TRUE(second->Synchronize().ok());
  EXPECT_EQ(seen, 5);
}

TEST(HostStream, LaunchesWhatItCapturedAgainAndAgain) {
  const auto device = Host();
  const auto stream = device->MakeStream("test").value();
  Word word(*device);
  int ran = 0;
  ASSERT_TRUE(stream->BeginCapture().ok());
  EXPECT_TRUE(stream->capturing());
  ASSERT_TRUE(stream->WaitWord(&word.value(), WordTest::kAnyBit, 1).ok());
  ASSERT_TRUE(stream->LaunchOnHost([&ran] { ++ran; }).ok());
  const auto graph = stream->EndCapture().value();
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(ran, 0);
  word.Set(1);
  ASSERT_TRUE(stream->Launch(*graph).ok());
  ASSERT_TRUE(stream->Launch(*graph).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(ran, 2);
}

TEST(HostStream, IsBounded) {
  const auto device = Host();
  const auto stream = device->MakeStream("test").value();
  Word word(*device);
  absl::Status status = stream->WaitWord(&word.value(), WordTest::kAnyBit, 1);
  size_t enqueued = 0;
  for (; status.ok() && enqueued <= kHostStreamOperations; ++enqueued) {
    status = stream->LaunchOnHost([] {});
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  word.Set(1);
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_TRUE(stream->LaunchOnHost([] {}).ok());
}

TEST(HostDevice, SaysWhenItsMemoryIsExhausted) {
  const auto device = Host({.memory_limit_bytes = 1000});
  DeviceBuffer first = device->Allocate(MemoryKind::kDevice, 600).value();
  const auto second = device->Allocate(MemoryKind::kDevice, 600);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(second.status().message(), HasSubstr("600 bytes of device memory"));
  EXPECT_TRUE(device->Allocate(MemoryKind::kPinnedHost, 600).ok());
  first = {};
  EXPECT_TRUE(device->Allocate(MemoryKind::kDevice, 600).ok());
}

TEST(CudaVersions, NameWhatIsMissing) {
  EXPECT_TRUE(CheckCudaVersions(13000, 13000, 1, 0).ok());
  EXPECT_TRUE(CheckCudaVersions(13000, 13020, 2, 1).ok()) << "minor versions are compatible";
  EXPECT_EQ(CheckCudaVersions(0, 13000, 0, 0).code(), absl::StatusCode::kNotFound);
  const absl::Status old = CheckCudaVersions(12040, 13000, 1, 0);
  EXPECT_EQ(old.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(old.message(), HasSubstr("12.4"));
  EXPECT_EQ(CheckCudaVersions(13000, 13000, 0, 0).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(CheckCudaVersions(13000, 13000, 2, 2).message(), HasSubstr("no CUDA device 2"));
}

TEST(OpenDevice, SaysWhyThereIsNoCudaDevice) {
  const auto device = OpenDevice(DeviceKind::kCuda, {.ordinal = 99});
  ASSERT_FALSE(device.ok());
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("CUDA"));
}

TEST(StatusWord, CarriesGenerationAndState) {
  EXPECT_EQ(StateOf(StatusWord(5, RowState::kLanded)), RowState::kLanded);
  EXPECT_NE(StatusWord(5, RowState::kLanded), StatusWord(6, RowState::kLanded));
  EXPECT_EQ(StatusWord(5, RowState::kInFlight) & kEndedBit, 0u);
  EXPECT_NE(StatusWord(5, RowState::kFailed) & kEndedBit, 0u);
  EXPECT_FALSE(GateMayOpen(StatusWord(5, RowState::kFailed)));
  EXPECT_TRUE(GateMayOpen(StatusWord(5, RowState::kLanded)));
}

}  // namespace
}  // namespace engram
