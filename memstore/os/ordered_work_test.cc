#include "memstore/os/ordered_work.h"

#include <pthread.h>

#include <new>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(OrderedWorkTest, DoesEveryUnitOnce) {
  for (const uint64_t units : {0u, 1u, 2u, 1000u}) {
    std::vector<std::atomic<int>> done(units);
    EXPECT_TRUE(DoInOrder(units, 4, [&]() -> Worker {
                  return [&](uint64_t unit) {
                    ++done[unit];
                    return absl::OkStatus();
                  };
                }).ok());
    for (const auto& times : done) EXPECT_EQ(times, 1);
  }
}

TEST(OrderedWorkTest, MakesAWorkerForEachThread) {
  std::atomic<int> workers{0};
  EXPECT_TRUE(DoInOrder(100, 3, [&]() -> Worker {
                ++workers;
                return [](uint64_t) { return absl::OkStatus(); };
              }).ok());
  EXPECT_EQ(workers, 3);
}

// Unit 7 fails late, after later ones have failed: its error still is the one returned.
TEST(OrderedWorkTest, ReturnsTheLowestFailingUnit) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> later_failed{0};
    const absl::Status status = DoInOrder(1000, 4, [&]() -> Worker {
      return [&](uint64_t unit) {
        if (unit < 7) return absl::OkStatus();
        if (unit == 7) {
          while (later_failed < 1) std::this_thread::yield();
        } else {
          ++later_failed;
        }
        return absl::DataLossError(absl::StrCat("unit ", unit));
      };
    });
    EXPECT_EQ(status.message(), "unit 7");
  }
}

TEST(OrderedWorkTest, AWorkerWithoutMemoryIsAStatus) {
  const absl::Status status = DoInOrder(1000, 4, [&]() -> Worker {
    return [](uint64_t unit) -> absl::Status {
      if (unit >= 7) throw std::bad_alloc();
      return absl::OkStatus();
    };
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  const WorkerFactory none = []() -> Worker { throw std::bad_alloc(); };
  EXPECT_EQ(DoInOrder(1000, 4, none).code(), absl::StatusCode::kResourceExhausted);
}

// No address space holds such a stack.
TEST(OrderedWorkTest, AThreadThatCannotBeStartedIsAStatus) {
  pthread_attr_t usual, huge;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(pthread_attr_init(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 48), 0);
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  std::atomic<int> done{0};
  const absl::Status status = DoInOrder(1000, 4, [&]() -> Worker {
    return [&](uint64_t) {
      ++done;
      return absl::OkStatus();
    };
  });
  pthread_setattr_default_np(&usual);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(done, 0);
}

TEST(OrderedWorkTest, BeginsNothingAfterAnError) {
  std::atomic<uint64_t> done{0};
  EXPECT_FALSE(DoInOrder(1u << 20, 2, [&]() -> Worker {
                 return [&](uint64_t unit) {
                   ++done;
                   return unit == 0 ? absl::InternalError("no") : absl::OkStatus();
                 };
               }).ok());
  EXPECT_LT(done, 1u << 20);
}

TEST(OrderedWorkTest, ProgressEndsWithTheTotal) {
  uint64_t last = 0;  // no lock: reports come from one thread at a time
  ProgressCount progress(4000, [&](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_EQ(total, 4000u);
    last = done;
  });
  EXPECT_TRUE(DoInOrder(1000, 4, [&]() -> Worker {
                return [&](uint64_t) {
                  progress.Add(4);
                  return absl::OkStatus();
                };
              }).ok());
  EXPECT_EQ(last, 4000u);
}

TEST(OrderedWorkTest, ThreadsAreBounded) {
  EXPECT_EQ(ChooseTableThreads(3), 3u);
  EXPECT_GE(ChooseTableThreads(0), 1u);
  EXPECT_LE(ChooseTableThreads(0), kMaxTableThreads);
  EXPECT_EQ(ChooseTableThreads(1000), kMaxTableThreads);
}

}  // namespace
}  // namespace engram
