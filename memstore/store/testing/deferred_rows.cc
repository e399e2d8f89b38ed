#include "memstore/store/testing/deferred_rows.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "memstore/base/check.h"

namespace engram::testing {

// Of the executor's thread, but for being handed over.
struct Deferred::Pending {
  std::vector<GatherTable> tables;
  RowRequest* request = nullptr;  // null: it was let go of
  std::shared_ptr<Executor> executor;
  RowSource::Done done;
  // One a run: its rows, the last first, and the places of the first to the last.
  std::vector<std::vector<std::byte>> staged;
  std::vector<std::vector<uint32_t>> places;

  void Stage() {
    request->present.clear();
    staged.resize(request->wanted.size());
    places.resize(request->wanted.size());
    for (size_t i = 0; i < request->wanted.size(); ++i) {
      const WantedRun& run = request->wanted[i];
      const GatherTable& table = tables[run.layer];
      const size_t count = run.ids32.size() + run.ids64.size();
      staged[i].resize(count * table.row_bytes);
      for (size_t row = 0; row < count; ++row) {
        const uint64_t id = run.ids64.empty() ? run.ids32[row] : run.ids64[row];
        const size_t place = count - 1 - row;
        places[i].push_back(static_cast<uint32_t>(place));
        std::memcpy(staged[i].data() + place * table.row_bytes, table.base + id * table.row_bytes,
                    table.row_bytes);
      }
      request->present.push_back(
          {.table = {staged[i].data(), count, table.row_bytes}, .ids32 = places[i]});
    }
  }
};

namespace {

class LettingGo final : public RowRequest::Pin {
 public:
  explicit LettingGo(std::function<void()> let_go) : let_go_(std::move(let_go)) {}
  ~LettingGo() override { let_go_(); }

 private:
  const std::function<void()> let_go_;
};

}  // namespace

class DeferredRows final : public RowSource {
 public:
  DeferredRows(Deferred* test, std::vector<GatherTable> tables, std::vector<HeldLayer> held)
      : RowSource(std::move(held), /*resident=*/false), test_(test), tables_(std::move(tables)) {}

  absl::StatusOr<When> Begin(RowRequest& request, const std::shared_ptr<Executor>& executor,
                             Done done) const override {
    auto pending = std::make_shared<Deferred::Pending>();
    pending->tables = tables_;
    pending->request = &request;
    pending->executor = executor;
    pending->done = std::move(done);
    MutexLock lock(test_->mutex_);
    ++test_->begun_;
    test_->changed_.NotifyAll();
    if (!test_->refuse_.ok()) return test_->refuse_;
    ++test_->pinned_;
    test_->waiting_.push_back(pending);
    request.pin = std::make_unique<LettingGo>([test = test_, pending] {
      pending->request = nullptr;
      for (std::vector<std::byte>& rows : pending->staged) {
        std::fill(rows.begin(), rows.end(), std::byte(0xee));
      }
      MutexLock lock(test->mutex_);
      --test->pinned_;
      std::erase(test->waiting_, pending);
      test->changed_.NotifyAll();
    });
    return When::kLater;
  }

 private:
  Deferred* const test_;
  const std::vector<GatherTable> tables_;
};

std::unique_ptr<const RowSource> Deferred::MakeSource(std::vector<GatherTable> tables,
                                                      std::vector<HeldLayer> held) {
  if (held.empty()) held = ResidentRows(tables).held();
  return std::make_unique<DeferredRows>(this, std::move(tables), std::move(held));
}

void Deferred::Refuse(absl::Status status) {
  MutexLock lock(mutex_);
  refuse_ = std::move(status);
}

void Deferred::AwaitBegun(size_t count) {
  MutexLock lock(mutex_);
  while (begun_ < count) changed_.Wait(mutex_);
}

size_t Deferred::pinned() const {
  MutexLock lock(mutex_);
  return pinned_;
}

void Deferred::Answer(const absl::Status& status) {
  std::shared_ptr<Pending> oldest;
  {
    MutexLock lock(mutex_);
    ENGRAM_CHECK(!waiting_.empty(), "no request waits for its rows");
    oldest = std::move(waiting_.front());
    waiting_.pop_front();
  }
  // The task must not be the last to have the executor: it runs there.
  const std::shared_ptr<Executor> executor = oldest->executor;
  executor->Post([oldest, status] {
    if (oldest->request == nullptr) return;
    if (status.ok()) oldest->Stage();
    oldest->done(status);
  });
}

}  // namespace engram::testing
