#include "server/net/call_backlog.h"

#include <atomic>
#include <optional>
#include <thread>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

// A loop's thread, which does what it is told and is gone with it.
class Loop {
 public:
  Loop() : thread_([this] { Run(); }) { Do(Order::kNothing); }
  ~Loop() { Do(Order::kEnd), thread_.join(); }
  void Take() { Do(Order::kTake); }
  void FindNothing() { Do(Order::kFindNothing); }
  void Read(Clock& clock) { clock_ = &clock, Do(Order::kRead); }

 private:
  enum class Order { kNone, kNothing, kTake, kFindNothing, kRead, kEnd };
  void Do(Order order) {
    order_ = order;
    order_.notify_all();
    if (order != Order::kEnd) order_.wait(order);
  }
  void Run() {
    CallTaker taker;
    while (true) {
      order_.wait(Order::kNone);
      const Order order = order_;
      if (order == Order::kEnd) return;
      if (order == Order::kTake) taker.Took();
      if (order == Order::kFindNothing) taker.FoundNothing();
      if (order == Order::kRead) AwaitLoops(*clock_);
      order_ = Order::kNone;
      order_.notify_all();
    }
  }

  std::atomic<Order> order_{Order::kNone};
  Clock* clock_ = nullptr;
  std::thread thread_;
};

TEST(CallBacklogTest, CallsWaitUntilTheyAreTaken) {
  CallsBegan(7);
  EXPECT_EQ(CallsWaiting(), 0u) << "there is no loop";
  Loop loop;
  EXPECT_EQ(CallsWaiting(), 0u) << "before it began";
  CallsBegan(3);
  loop.Take();
  EXPECT_EQ(CallsWaiting(), 2u);
  loop.FindNothing();
  EXPECT_EQ(CallsWaiting(), 0u) << "they were never calls";
  CallsBegan(1);
  EXPECT_EQ(CallsWaiting(), 1u);
}

TEST(CallBacklogTest, ALoopThatIsBehindCountsWhateverAnotherFinds) {
  Loop one, other;
  CallsBegan(5);
  one.FindNothing();
  EXPECT_EQ(CallsWaiting(), 5u);
  other.Take();
  EXPECT_EQ(CallsWaiting(), 4u);
  other.FindNothing();
  EXPECT_EQ(CallsWaiting(), 0u);
}

TEST(CallBacklogTest, WhoIsNoLoopWaitsUntilHalfAreTaken) {
  FakeClock clock;
  Loop loop;
  loop.FindNothing();
  CallsBegan(CallTaker::kMostWaiting - 1);
  AwaitLoops(clock);  // returns
  CallsBegan(1);
  loop.Read(clock);  // returns
  std::atomic<bool> has_read{false};
  std::thread reader([&] {
    AwaitLoops(RealClock());
    has_read = true;
  });
  while (CallsWaiting() >= CallTaker::kMostWaiting / 2) {
    EXPECT_FALSE(has_read.load() && CallsWaiting() >= CallTaker::kMostWaiting);
    loop.Take();
  }
  reader.join();
}

TEST(CallBacklogTest, ALoopThatTakesNothingHoldsNobodyUpForGood) {
  Loop loop;
  loop.FindNothing();
  CallsBegan(10 * CallTaker::kMostWaiting);
  AwaitLoops(RealClock());
  EXPECT_EQ(CallsWaiting(), 10 * CallTaker::kMostWaiting);
  loop.FindNothing();
}

}  // namespace
}  // namespace engram
