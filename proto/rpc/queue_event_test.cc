#include "proto/rpc/queue_event.h"

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/message_slices.h"
#include "proto/rpc/take_event.h"

namespace engram::rpc {
namespace {

// A call as they are: of several bases, with events that are told what they were made with.
struct FirstBase {
  virtual ~FirstBase() = default;
  int filler = 0;
};
class Owner final : public FirstBase {
 public:
  Owner() : plain_(this, &Owner::OnPlain), told_(this, &Owner::OnTold, 7, "seven") {}

  std::vector<std::string> seen;
  void OnPlain(bool ok) { seen.push_back(ok ? "plain" : "plain failed"); }
  void OnTold(int number, std::string word, bool ok) {
    seen.push_back(std::to_string(number) + word + (ok ? "" : " failed"));
  }
  MethodEvent<Owner> plain_;
  MethodEvent<Owner, int, std::string> told_;
};

TEST(QueueEvent, ATagLeadsToItsOwnersMethod) {
  Owner owner;
  QueueEvent::Dispatch(owner.plain_.tag(), true);
  QueueEvent::Dispatch(owner.told_.tag(), false);
  EXPECT_EQ(owner.seen, (std::vector<std::string>{"plain", "7seven failed"}));
}

TEST(TakeEvent, AnEventIsTakenWhetherItIsThereOrWaitedFor) {
  Owner owner;
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  EXPECT_EQ(TakeReadyEvent(queue, &tag, &ok), grpc::CompletionQueue::TIMEOUT);
  EXPECT_EQ(TakeEvent(queue, &tag, &ok, std::chrono::nanoseconds(1)),
            grpc::CompletionQueue::TIMEOUT);
  grpc::Alarm alarm;
  alarm.Set(&queue, After(std::chrono::nanoseconds(0)), owner.told_.tag());
  ASSERT_EQ(TakeEvent(queue, &tag, &ok, kForever), grpc::CompletionQueue::GOT_EVENT);
  EXPECT_TRUE(ok);
  QueueEvent::Dispatch(tag, ok);
  EXPECT_EQ(owner.seen, (std::vector<std::string>{"7seven"}));
  queue.Shutdown();
  EXPECT_EQ(TakeEvent(queue, &tag, &ok, kForever), grpc::CompletionQueue::SHUTDOWN);
}

TEST(TakeEvent, AnAlarmAtOnceHasRungWhenItIsSet) {
  Owner owner;
  grpc::CompletionQueue queue;
  grpc::Alarm alarm;
  for (int i = 0; i < 100; ++i) {
    alarm.Set(&queue, AtOnce(), owner.plain_.tag());
    void* tag = nullptr;
    bool ok = false;
    ASSERT_EQ(TakeReadyEvent(queue, &tag, &ok), grpc::CompletionQueue::GOT_EVENT) << i;
    EXPECT_TRUE(ok);
  }
}

TEST(TakeEvent, AnAlarmForeverAwayDoesNotRing) {
  Owner owner;
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = true;
  grpc::Alarm alarm;
  alarm.Set(&queue, After(kForever), owner.plain_.tag());
  EXPECT_EQ(TakeReadyEvent(queue, &tag, &ok), grpc::CompletionQueue::TIMEOUT);
  alarm.Cancel();
  ASSERT_EQ(TakeEvent(queue, &tag, &ok, kForever), grpc::CompletionQueue::GOT_EVENT);
  EXPECT_FALSE(ok);
}

TEST(GrpcTime, WhatIsLeftIsTheSameByEveryClock) {
  using std::chrono::seconds;
  for (const seconds span : {seconds(-100), seconds(0), seconds(100), seconds(1000000000)}) {
    EXPECT_NEAR(LeftUntil(After(span)).count(), std::chrono::nanoseconds(span).count(), 5e9);
    const gpr_timespec wall = gpr_time_add(gpr_now(GPR_CLOCK_REALTIME),
                                           gpr_time_from_seconds(span.count(), GPR_TIMESPAN));
    EXPECT_NEAR(LeftUntil(wall).count(), std::chrono::nanoseconds(span).count(), 5e9);
  }
}

TEST(GrpcTime, WhatNeverComesIsForeverAway) {
  EXPECT_EQ(LeftUntil(After(kForever)), kForever);
  EXPECT_EQ(LeftUntil(gpr_inf_future(GPR_CLOCK_REALTIME)), kForever);
  EXPECT_LT(LeftUntil(gpr_inf_past(GPR_CLOCK_MONOTONIC)).count(), 0);
  // What a client may ask for is longer than nanoseconds can say.
  const gpr_timespec late = {int64_t{1} << 60, 0, GPR_CLOCK_MONOTONIC};
  EXPECT_EQ(LeftUntil(late), kForever);
}

TEST(MessageSlices, HoldsTheBytesOfAMessageInOrderUntilTheNext) {
  MessageSlices slices;
  {
    const grpc::Slice parts[] = {grpc::Slice(std::string(100, 'a')), grpc::Slice("bc")};
    const grpc::ByteBuffer message(parts, 2);
    ASSERT_TRUE(slices.Read(message));
  }
  std::string bytes;
  for (const wire::Bytes& one : slices.chain()) {
    bytes.append(reinterpret_cast<const char*>(one.data()), one.size());
  }
  EXPECT_EQ(bytes, std::string(100, 'a') + "bc");
  ASSERT_TRUE(slices.Read(OneSlice(grpc::Slice("d"))));
  ASSERT_EQ(slices.chain().size(), 1u);
  EXPECT_FALSE(slices.Read(grpc::ByteBuffer()));
  EXPECT_TRUE(slices.chain().empty());
}

}  // namespace
}  // namespace engram::rpc
