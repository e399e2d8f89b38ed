#include "memstore/store/row_source.h"

#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/store/testing/deferred_rows.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 16;

// Row r is filled with r.
class Table {
 public:
  explicit Table(uint64_t rows) : bytes_(rows * kRowBytes) {
    for (uint64_t row = 0; row < rows; ++row) {
      std::memset(bytes_.data() + row * kRowBytes, static_cast<int>(row), kRowBytes);
    }
  }
  GatherTable table() const { return {bytes_.data(), bytes_.size() / kRowBytes, kRowBytes}; }

 private:
  std::vector<std::byte> bytes_;
};

std::vector<int> GatherRun(const PresentRun& run) {
  const size_t rows = run.ids32.size() + run.ids64.size();
  std::vector<std::byte> out(rows * run.table.row_bytes);
  Gather<uint32_t>(run.table, run.ids32, {.data = out.data()});
  Gather<uint64_t>(run.table, run.ids64,
                   {.data = out.data() + run.ids32.size() * run.table.row_bytes});
  std::vector<int> values;
  for (size_t row = 0; row < rows; ++row) {
    values.push_back(static_cast<int>(out[row * run.table.row_bytes]));
  }
  return values;
}

class NoSource final : public RowSource {
 public:
  explicit NoSource(std::vector<HeldLayer> held) : RowSource(std::move(held), false) {}
  absl::StatusOr<When> Begin(RowRequest&, const std::shared_ptr<Executor>&, Done) const override {
    return absl::UnimplementedError("it has no rows");
  }
};

// A thread that runs what is posted; it ends with what there is.
class ThreadExecutor final : public Executor {
 public:
  ThreadExecutor() : thread_([this] { Run(); }) {}
  ~ThreadExecutor() override { Join(); }
  void Post(std::function<void()> task) override {
    MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.NotifyAll();
  }
  void Join() {
    if (!thread_.joinable()) return;
    Post(nullptr);
    thread_.join();
    // What came after it is not run, and may hold the executor itself.
    std::deque<std::function<void()>> left;
    MutexLock lock(mutex_);
    left.swap(tasks_);
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> task;
      {
        MutexLock lock(mutex_);
        while (tasks_.empty()) changed_.Wait(mutex_);
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      if (!task) return;
      task();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

TEST(ResidentRows, ArePresentAtOnceWhereTheyLie) {
  const Table small(10), large(200);
  const ResidentRows source({small.table(), large.table()});
  EXPECT_TRUE(source.resident());
  EXPECT_TRUE(source.holds_all());
  ASSERT_EQ(source.held().size(), 2u);
  EXPECT_EQ(source.held()[1].table_rows, 200u);
  const std::vector<uint32_t> ids32 = {7, 7, 0};
  const std::vector<uint64_t> ids64 = {199, 3};
  RowRequest request;
  request.wanted = {{.layer = 0, .ids32 = ids32}, {.layer = 1, .ids64 = ids64}};
  const auto when =
      source.Begin(request, nullptr, [](const absl::Status&) { FAIL() << "they were there"; });
  ASSERT_TRUE(when.ok());
  EXPECT_EQ(*when, RowSource::When::kNow);
  ASSERT_EQ(request.present.size(), 2u);
  EXPECT_EQ(request.present[0].table.base, small.table().base);
  EXPECT_EQ(GatherRun(request.present[0]), (std::vector<int>{7, 7, 0}));
  EXPECT_EQ(GatherRun(request.present[1]), (std::vector<int>{199, 3}));
}

TEST(RowSource, KnowsWhetherItHoldsAll) {
  const std::vector<RowRange> ranges = {{.first = 3, .rows = 2}, {.first = 10, .rows = 5}};
  const NoSource source({{.table_rows = 20, .ranges = ranges}, {.table_rows = 5, .ranges = {}}});
  EXPECT_FALSE(source.holds_all());
  EXPECT_EQ(source.held()[0].ranges, ranges);
  EXPECT_TRUE(NoSource({{.table_rows = 5, .ranges = {{0, 5}}}}).holds_all());
  EXPECT_FALSE(NoSource({{.table_rows = 5, .ranges = {{0, 4}}}}).holds_all());
  EXPECT_FALSE(NoSource({{.table_rows = 5, .ranges = {{1, 4}}}}).holds_all());
}

TEST(ResidentRows, MayBeAPartOfTheirTables) {
  const Table table(10);
  const ResidentRows source({table.table()}, {{.table_rows = 10, .ranges = {{2, 3}}}});
  EXPECT_TRUE(source.resident());
  EXPECT_FALSE(source.holds_all());
}

// Requests are begun and let go of on the executor's thread, and answered from another.
TEST(DeferredRows, ComeOnTheThreadThatAskedUnlessTheyWereLetGoOf) {
  constexpr size_t kRequests = 200;
  const Table table(100);
  testing::Deferred deferred;
  const auto source = deferred.MakeSource({table.table()});
  const auto executor = std::make_shared<ThreadExecutor>();
  const std::vector<uint64_t> ids = {5, 90, 17};
  std::vector<RowRequest> requests(kRequests);
  size_t came = 0, failed = 0;  // the executor's
  for (size_t i = 0; i < kRequests; ++i) {
    executor->Post([&, i] {
      RowRequest& request = requests[i];
      request.wanted = {{.layer = 0, .ids64 = ids}};
      const auto when = source->Begin(request, executor, [&, i](const absl::Status& status) {
        if (!status.ok()) {
          ++failed;
        } else {
          ++came;
          EXPECT_EQ(GatherRun(requests[i].present[0]), (std::vector<int>{5, 90, 17}));
        }
        requests[i].Clear();
      });
      EXPECT_TRUE(when.ok() && *when == RowSource::When::kLater);
    });
    deferred.AwaitBegun(i + 1);
    // What was posted before has run: this request waits alone.
    if (i % 4 == 0) executor->Post([&, i] { requests[i].Clear(); });
    if (i % 4 == 1) deferred.Complete();
    if (i % 4 == 2) deferred.Fail(absl::UnavailableError("gone"));
    if (i % 4 == 3) {
      // Let go of when the rows have come and it is about to be told.
      executor->Post([&, i] {
        deferred.Complete();
        requests[i].Clear();
      });
    }
  }
  executor->Join();
  EXPECT_EQ(deferred.pinned(), 0u);
  EXPECT_EQ(came, kRequests / 4);
  EXPECT_EQ(failed, kRequests / 4);
}

}  // namespace
}  // namespace engram
