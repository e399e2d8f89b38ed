#include "memstore/store/scrubber.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "memstore/store/resident_verifier.h"

namespace engram {

absl::StatusOr<std::unique_ptr<Scrubber>> Scrubber::Create(ScrubberOptions options, Clock& clock) {
  std::unique_ptr<Scrubber> scrubber(new Scrubber(std::move(options), clock));
  if (scrubber->options_.mib_per_s == 0) return scrubber;
  ENGRAM_ASSIGN_OR_RETURN(scrubber->thread_,
                          StartThread("scrub", [raw = scrubber.get()] { raw->Run(); }));
  return scrubber;
}

Scrubber::~Scrubber() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  end_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

bool Scrubber::RestUntil(MonotonicTime due) {
  MutexLock lock(mutex_);
  while (!ending_ && clock_.WaitUntil(end_, mutex_, due)) {
  }
  return !ending_;
}

void Scrubber::Run() {
  Pace pace(double{1 << 20} * options_.mib_per_s, clock_.Now());
  MonotonicTime next_pass;
  do {
    next_pass = clock_.Now() + kLeastPassTime;
    if (!Pass(pace)) return;
  } while (RestUntil(next_pass));
}

bool Scrubber::Pass(Pace& pace) {
  std::vector<Share> shares;
  uint64_t total = 0;
  for (const std::shared_ptr<const TableSet>& set : options_.sets()) {
    shares.push_back({set, ResidentVerifier::BytesOf(*set)});
    total += shares.back().bytes;
  }
  pass_bytes_total_ = total;
  uint64_t done = 0;
  for (const Share& share : shares) {
    if (!ScrubInSteps(share, pace)) return false;
    done += share.bytes;
    pass_bytes_done_ = done;  // of a set that was left early, too
  }
  if (!shares.empty()) ++passes_;
  pass_bytes_done_ = 0;
  pass_bytes_total_ = 0;
  return true;
}

bool Scrubber::ScrubInSteps(const Share& share, Pace& pace) {
  ResidentVerifier verifier;
  for (;;) {
    uint64_t bytes = 0;
    {
      const std::shared_ptr<const TableSet> set = share.set.lock();
      if (set == nullptr) return true;
      absl::StatusOr<uint64_t> step = CountedStep(*set, verifier);
      if (!step.ok() || *step == 0) return true;
      bytes = *step;
    }  // let go of before the rest
    pass_bytes_done_ += bytes;
    if (!RestUntil(pace.After(bytes, clock_.Now()))) return false;
  }
}

absl::StatusOr<uint64_t> Scrubber::CountedStep(const TableSet& set, ResidentVerifier& verifier) {
  absl::StatusOr<uint64_t> step = verifier.Step(set);
  if (step.ok()) {
    bytes_verified_ += *step;
  } else {
    ++mismatches_;
    options_.on_mismatch(set, step.status());
  }
  return step;
}

absl::Status Scrubber::ScrubNow(const TableSet& set,
                                const std::function<bool(uint64_t done, uint64_t total)>& go_on) {
  ResidentVerifier verifier;
  const uint64_t total = ResidentVerifier::BytesOf(set);
  uint64_t done = 0;
  for (;;) {
    absl::StatusOr<uint64_t> step = CountedStep(set, verifier);
    if (!step.ok()) return step.status();
    if (*step == 0) return absl::OkStatus();
    done += *step;
    if (go_on && !go_on(done, total)) {
      return absl::CancelledError(absl::StrCat("the scrub of table set ", set.name(), " was ended ",
                                               "after ", done, " of ", total, " bytes"));
    }
  }
}

ScrubProgress Scrubber::progress() const {
  ScrubProgress progress;
  progress.bytes_verified = bytes_verified_;
  progress.passes = passes_;
  progress.mismatches = mismatches_;
  progress.pass_bytes_done = pass_bytes_done_;
  progress.pass_bytes_total = pass_bytes_total_;
  return progress;
}

}  // namespace engram
