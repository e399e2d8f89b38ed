// Where the rows of a table set are taken from: a source makes the rows of a request present and
// pinned, then the gather loop runs over the tables that it names.
//
// Resident rows (ResidentRows) are present at once, so whoever gathers from a resident source asks
// it nothing: no virtual call is made for a row, a message or a batch. Others have to bring rows to
// memory first; they bound what they pin and stage, and say so when there is no more room.
//
// A source is immutable or thread-safe, and outlives its requests. Begin, the end of a request and
// what it is told by belong to one thread, its executor's; so a request that is given up while its
// rows are on their way is not called any more, without a lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/gather/gather.h"
#include "memstore/partition/partition.h"

namespace engram {

// Rows of one layer that a message needs, in its order, by ids of one of two widths.
struct WantedRun {
  size_t layer = 0;  // place in the table set's layers()
  absl::Span<const uint32_t> ids32 = {};
  absl::Span<const uint64_t> ids64 = {};
};

// Where the rows of a run lie: its row i is row ids[i] of `table`, which need not be the layer's.
struct PresentRun {
  GatherTable table;
  absl::Span<const uint32_t> ids32 = {};
  absl::Span<const uint64_t> ids64 = {};
};

// A thread that takes tasks, such as a loop's.
class Executor {
 public:
  virtual ~Executor() = default;
  // Thread-safe. The task runs later on the executor's thread; where that has ended it is dropped.
  virtual void Post(std::function<void()> task) = 0;
};

// Rows of one message, from asking for them to letting go. Reused, so that a warm one allocates
// nothing of its own.
struct RowRequest {
  // Of a source: destroyed to unpin, or to give up what has not come yet.
  class Pin {
   public:
    virtual ~Pin() = default;
  };

  std::vector<WantedRun> wanted;    // filled by who asks; the ids outlive it
  std::vector<PresentRun> present;  // filled by the source, one for each of `wanted`
  std::unique_ptr<Pin> pin;

  void Clear() {
    pin.reset();
    wanted.clear();
    present.clear();
  }
};

class RowSource {
 public:
  enum class When { kNow, kLater };
  using Done = absl::AnyInvocable<void(absl::Status)>;

  virtual ~RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;

  // The rows that it holds, layer by layer as in the table set. Those of a request are held
  // (CheckHeldRows).
  const std::vector<HeldLayer>& held() const { return held_; }
  bool holds_all() const { return holds_all_; }

  // Whether all that it holds lies in the tables of the set's layers(), for as long as the set.
  bool resident() const { return resident_; }

  // Makes the rows of all that `request` wants present and pins them. kNow: they are. kLater:
  // `done` is called once by the executor, with OK when they are, else with the reason, unless the
  // request was cleared before. It may clear the request, and so destroy the Pin: a source that
  // keeps it there moves it out before it calls it. On the executor's thread. RESOURCE_EXHAUSTED:
  // no room to pin or stage them; UNAVAILABLE: what they come from is gone; DATA_LOSS: it is
  // damaged.
  virtual absl::StatusOr<When> Begin(RowRequest& request, const std::shared_ptr<Executor>& executor,
                                     Done done) const = 0;

 protected:
  RowSource(std::vector<HeldLayer> held, bool resident);

 private:
  const std::vector<HeldLayer> held_;
  const bool holds_all_;
  const bool resident_;
};

// Rows in memory: whole layers, or what is held of each.
class ResidentRows final : public RowSource {
 public:
  // By layer, as in the table set, which outlives it. Without `held` all rows of the tables are.
  explicit ResidentRows(std::vector<GatherTable> tables);
  ResidentRows(std::vector<GatherTable> tables, std::vector<HeldLayer> held);

  absl::StatusOr<When> Begin(RowRequest& request, const std::shared_ptr<Executor>& executor,
                             Done done) const override;

 private:
  const std::vector<GatherTable> tables_;
};

}  // namespace engram
