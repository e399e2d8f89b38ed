// Runs in the guest (tests/rdma): needs a device.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/rdma/device.h"
#include "memstore/rdma/memlock.h"
#include "memstore/rdma/verbs.h"

namespace engram {
namespace {

// One end of a connection within a process.
struct End {
  explicit End(const std::shared_ptr<const RdmaDevice>& device, int remote_access) {
    domain = RdmaDomain::Create(device).value();
    channel = RdmaChannel::Create(device).value();
    completions = RdmaCompletions::Create(channel, *device, 16).value();
    pair = RdmaQueuePair::Create(domain, completions,
                                 {.sends = 8, .receives = 8, .inline_bytes = 512}, remote_access)
               .value();
  }
  // Waits for one completion.
  ibv_wc Next() const {
    ibv_wc completion{};
    const MonotonicTime end = RealClock().Now() + absl::Seconds(30);
    while (completions.Poll({&completion, 1}) == 0 && RealClock().Now() < end) {
    }
    return completion;
  }
  void Write(const RdmaBuffer& from, uint64_t address, uint32_t key, uint32_t bytes) const {
    ibv_sge piece{reinterpret_cast<uintptr_t>(from.data()), bytes, from.local_key()};
    ibv_send_wr request{}, *bad = nullptr;
    request.sg_list = &piece;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_WRITE;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = address;
    request.wr.rdma.rkey = key;
    ASSERT_EQ(ibv_post_send(pair.get(), &request, &bad), 0);
  }
  std::shared_ptr<RdmaDomain> domain;
  std::shared_ptr<RdmaChannel> channel;
  RdmaCompletions completions;
  RdmaQueuePair pair;
};

// There may be others: the one that the guest came with.
std::string DeviceName() {
  const char* const name = std::getenv("RDMA_DEV");
  return name != nullptr ? name : RdmaDeviceNames().at(0);
}

std::shared_ptr<const RdmaDevice> Device() {
  return RdmaDevice::Open({.device = DeviceName()}).value();
}

constexpr int kWritable = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;

TEST(RdmaVerbs, WritesLandAndWrongKeysDoNot) {
  const auto device = Device();
  End a(device, 0), b(device, IBV_ACCESS_REMOTE_WRITE), other(device, IBV_ACCESS_REMOTE_WRITE);
  ASSERT_TRUE(a.pair.Connect(b.pair.Own()).ok());
  ASSERT_TRUE(b.pair.Connect(a.pair.Own()).ok());
  EXPECT_GE(a.pair.inline_bytes(), 64u);
  const RdmaBuffer from = RdmaBuffer::Create(a.domain, 8192, IBV_ACCESS_LOCAL_WRITE).value();
  const RdmaBuffer to = RdmaBuffer::Create(b.domain, 8192, kWritable).value();
  const RdmaBuffer foreign = RdmaBuffer::Create(other.domain, 4096, kWritable).value();
  std::memset(from.data(), 0x5a, 8192);
  const auto address = [](const RdmaBuffer& buffer) {
    return reinterpret_cast<uintptr_t>(buffer.data());
  };
  a.Write(from, address(to), to.region().remote_key(), 8192);
  EXPECT_EQ(a.Next().status, IBV_WC_SUCCESS);
  EXPECT_EQ(std::memcmp(to.data(), from.data(), 8192), 0);
  // A key of another domain opens nothing here.
  a.Write(from, address(foreign), foreign.region().remote_key(), 64);
  const ibv_wc refused = a.Next();
  EXPECT_EQ(refused.status, IBV_WC_REM_ACCESS_ERR) << RdmaFailure(refused);
  EXPECT_EQ(foreign.data()[0], std::byte{0});
}

TEST(RdmaVerbs, AQueuePairInErrorTakesNothingAndGivesBackWhatWasPosted) {
  const auto device = Device();
  End a(device, 0), b(device, IBV_ACCESS_REMOTE_WRITE);
  ASSERT_TRUE(a.pair.Connect(b.pair.Own()).ok());
  ASSERT_TRUE(b.pair.Connect(a.pair.Own()).ok());
  const RdmaBuffer from = RdmaBuffer::Create(a.domain, 4096, IBV_ACCESS_LOCAL_WRITE).value();
  const RdmaBuffer to = RdmaBuffer::Create(b.domain, 4096, kWritable).value();
  std::memset(from.data(), 0x5a, 4096);
  ibv_recv_wr receive{}, *bad = nullptr;
  receive.wr_id = 7;
  ASSERT_EQ(ibv_post_recv(b.pair.get(), &receive, &bad), 0);
  b.pair.MoveToError();
  EXPECT_EQ(b.Next().status, IBV_WC_WR_FLUSH_ERR);
  a.Write(from, reinterpret_cast<uintptr_t>(to.data()), to.region().remote_key(), 4096);
  EXPECT_EQ(a.Next().status, IBV_WC_RETRY_EXC_ERR);  // within a second
  EXPECT_EQ(to.data()[0], std::byte{0});
}

TEST(RdmaVerbs, WhatIsNotThereIsNamedWithWhatToDo) {
  const auto missing = RdmaDevice::Open({.device = "nope0"});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find(DeviceName()), std::string::npos);
  EXPECT_EQ(RdmaDevice::Open({.device = DeviceName(), .port = 9}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(RdmaDevice::Open({.device = DeviceName(), .gid_index = 900}).status().code(),
            absl::StatusCode::kNotFound);
  const auto device = Device();
  EXPECT_FALSE(device->pages_on_demand());  // rxe has none
  End a(device, 0);
  EXPECT_EQ(a.pair.Connect({.queue_pair = 1, .mtu = 77}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(RdmaVerbs, TheRouteToAnAddressNamesTheDevice) {
  const auto device = Device();
  const auto route = RdmaRouteTo(device->gid());
  ASSERT_TRUE(route.ok()) << route.status();
  EXPECT_EQ(route->device, DeviceName());
  EXPECT_EQ(route->gid_index, device->gid_index());
  RdmaGid nowhere = device->gid();
  nowhere[12] = 203;
  EXPECT_FALSE(RdmaRouteTo(nowhere).ok());
}

TEST(RdmaVerbs, WithoutPermissionOrMemoryToPinTheMessageSaysWhatToDo) {
  // In a child: neither can be undone.
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{64 << 10, 64 << 10};
    setrlimit(RLIMIT_MEMLOCK, &limit);
    if (setuid(65534) != 0) _exit(2);
    if (CheckMemlock(1 << 20).code() != absl::StatusCode::kResourceExhausted) _exit(3);
    const auto domain = RdmaDomain::Create(Device());
    if (!domain.ok()) _exit(4);
    const auto buffer = RdmaBuffer::Create(*domain, 1 << 20, IBV_ACCESS_LOCAL_WRITE);
    const bool said = buffer.status().code() == absl::StatusCode::kResourceExhausted &&
                      buffer.status().message().find("ulimit -l") != std::string::npos;
    _exit(said ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  if (geteuid() != 0) GTEST_SKIP() << "only root can close the device to others";
  ASSERT_EQ(system("chmod 600 /dev/infiniband/uverbs0"), 0);
  const pid_t other = fork();
  if (other == 0) {
    if (setuid(65534) != 0) _exit(2);
    _exit(RdmaDevice::Open({.device = DeviceName()}).status().code() ==
                  absl::StatusCode::kPermissionDenied
              ? 0
              : 6);
  }
  ASSERT_EQ(waitpid(other, &status, 0), other);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(system("chmod 666 /dev/infiniband/uverbs0"), 0);
}

TEST(RdmaVerbs, APortThatIsDownIsSaid) {
  if (geteuid() != 0 || system("ip link set dummy0 down") != 0) {
    GTEST_SKIP() << "no interface dummy0 that this user may take down";
  }
  // The device hears of it a moment later.
  absl::StatusOr<std::shared_ptr<const RdmaDevice>> device = nullptr;
  for (int i = 0; i < 100 && device.ok(); ++i) {
    device = RdmaDevice::Open({.device = DeviceName()});
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_FALSE(device.ok());
  EXPECT_NE(device.status().message().find("interface"), std::string::npos) << device.status();
  ASSERT_EQ(system("ip link set dummy0 up; ip addr replace 10.77.0.1/24 dev dummy0"), 0);
  for (int i = 0; i < 500 && !device.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(20));
    device = RdmaDevice::Open({.device = DeviceName()});
  }
  EXPECT_TRUE(device.ok()) << device.status();
}

}  // namespace
}  // namespace engram
