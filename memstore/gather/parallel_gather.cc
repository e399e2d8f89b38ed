#include "memstore/gather/parallel_gather.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

// Bytes to take at a time: some ten microseconds of work, so that the threads end nearly together
// and the counter is touched seldom.
constexpr size_t kPieceBytes = 64 << 10;
// Waking a thread costs about 20 us, the time of 100 KiB of rows: below twice that and some the
// caller is faster alone. A stream's messages (512 KiB) are above it.
constexpr size_t kMinSharedBytes = 256 << 10;
// Looks at a job's workers before its caller goes to sleep: about the time that a piece takes.
constexpr int kSpins = 2000;

}  // namespace

struct GatherTeam::Job {
  // Gathers rows [first, first + count).
  void (*gather)(const Job& job, size_t first, size_t count);
  const GatherTable& table;
  const void* ids;
  const Landing& landing;
  size_t rows;
  size_t piece_rows;
  std::atomic<size_t> next_row{0};
  std::atomic<uint32_t> workers{0};  // TakeJob and LeaveJob change it, the spinning caller reads it

  // Takes pieces until there are none.
  void Run() {
    for (;;) {
      const size_t first = next_row.fetch_add(piece_rows, std::memory_order_relaxed);
      if (first >= rows) return;
      gather(*this, first, std::min(piece_rows, rows - first));
    }
  }
};

absl::StatusOr<std::unique_ptr<GatherTeam>> GatherTeam::Create(uint32_t threads,
                                                               const std::string& name) {
  if (threads == 0 || threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat(threads, " gather threads were asked for; use 1 to ", kMaxThreads));
  }
  std::unique_ptr<GatherTeam> team(new GatherTeam);
  team->workers_.reserve(threads - 1);
  for (uint32_t i = 1; i < threads; ++i) {
    absl::StatusOr<std::thread> worker =
        StartThread(absl::StrCat(name, "/", i), [raw = team.get()] { raw->Work(); });
    if (!worker.ok()) return worker.status();
    team->workers_.push_back(*std::move(worker));
  }
  return team;
}

GatherTeam::~GatherTeam() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  work_there_.NotifyAll();
  for (std::thread& worker : workers_) worker.join();
}

template <typename Id>
void GatherTeam::Gather(const GatherTable& table, absl::Span<const Id> ids,
                        const Landing& landing) {
  if (workers_.empty() || ids.size() * table.row_bytes < kMinSharedBytes) {
    return engram::Gather(table, ids, landing);
  }
  const auto gather = [](const Job& job, size_t first, size_t count) {
    GatherRange(job.table, absl::MakeSpan(static_cast<const Id*>(job.ids), job.rows), first, count,
                job.landing);
  };
  Job job{.gather = gather,
          .table = table,
          .ids = ids.data(),
          .landing = landing,
          .rows = ids.size(),
          .piece_rows = std::max<size_t>(1, kPieceBytes / table.row_bytes)};
  Share(job);
}
template void GatherTeam::Gather<uint32_t>(const GatherTable&, absl::Span<const uint32_t>,
                                           const Landing&);
template void GatherTeam::Gather<uint64_t>(const GatherTable&, absl::Span<const uint64_t>,
                                           const Landing&);

void GatherTeam::Share(Job& job) {
  const bool offered = Offer(job);
  job.Run();
  if (offered) Withdraw(job);
}

// Whether there was room to offer it.
bool GatherTeam::Offer(Job& job) {
  {
    MutexLock lock(mutex_);
    if (job_count_ == jobs_.size()) return false;
    jobs_[job_count_++] = &job;
  }
  work_there_.NotifyAll();
  return true;
}

// The oldest job with rows left, its worker counted; null when the team ends. Waits for one.
GatherTeam::Job* GatherTeam::TakeJob() {
  for (;;) {
    for (size_t i = 0; i < job_count_; ++i) {
      Job* const job = jobs_[i];
      if (job->next_row.load(std::memory_order_relaxed) >= job->rows) continue;
      job->workers.fetch_add(1, std::memory_order_relaxed);
      return job;
    }
    if (ending_) return nullptr;
    work_there_.Wait(mutex_);
  }
}

void GatherTeam::Work() {
  MutexLock lock(mutex_);
  while (Job* const job = TakeJob()) {
    lock.Unlock();
    job->Run();
    lock.Lock();
    LeaveJob(*job);
  }
}

// The caller takes mutex_ before its job goes, so the job is still there; its rows are in place for
// the caller once it has seen the count (release, for one that spins).
void GatherTeam::LeaveJob(Job& job) {
  const uint32_t workers = job.workers.fetch_sub(1, std::memory_order_release);
  ENGRAM_CHECK(workers > 0, "a worker left a job that has none");
  if (workers == 1) worker_left_.NotifyAll();
}

// Takes the job out, so that no further worker finds it, and waits for those that work on it.
void GatherTeam::Withdraw(Job& job) {
  MutexLock lock(mutex_);
  Job** const end = std::remove(jobs_.data(), jobs_.data() + job_count_, &job);
  ENGRAM_CHECK(end + 1 == jobs_.data() + job_count_, "a job that was offered is not there");
  --job_count_;
  if (job.workers.load(std::memory_order_acquire) == 0) return;
  lock.Unlock();
  for (int spin = 0; spin < kSpins && job.workers.load(std::memory_order_acquire) != 0; ++spin) {
    __builtin_ia32_pause();
  }
  lock.Lock();
  while (job.workers.load(std::memory_order_acquire) != 0) worker_left_.Wait(mutex_);
}

}  // namespace engram
