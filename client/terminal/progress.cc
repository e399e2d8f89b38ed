#include "client/terminal/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "memstore/base/human_units.h"

namespace engram {
namespace {

// Only what a person would wonder about is worth a line.
constexpr absl::Duration kShowAfter = absl::Seconds(2);
constexpr absl::Duration kTerminalInterval = absl::Milliseconds(200);
constexpr absl::Duration kPlainInterval = absl::Seconds(10);
// The rate is that since the beginning of this span or of the one before it.
constexpr absl::Duration kRateSpan = absl::Seconds(15);

}  // namespace

bool StandardErrorIsTerminal() { return isatty(STDERR_FILENO) == 1; }

struct Progress::State {
  struct Mark {
    MonotonicTime time;
    uint64_t done = 0;
  };

  // Bytes a second; 0 where nothing is known.
  double Rate(MonotonicTime now, uint64_t done) {
    if (now - current.time >= kRateSpan) {
      before = current;
      current = {now, done};
    }
    const double seconds = absl::ToDoubleSeconds(now - before.time);
    return seconds > 0 ? static_cast<double>(done - before.done) / seconds : 0;
  }

  std::string what;
  bool terminal = false;
  bool shown = false;
  bool on_line = false;
  MonotonicTime begin;
  MonotonicTime last;
  Mark before, current;  // where the rate is measured from
};

Progress::Progress(std::string what, const Clock& clock, bool terminal)
    : clock_(clock), state_(std::make_unique<State>()) {
  State& s = *state_;
  s.what = std::move(what);
  s.terminal = terminal;
  s.begin = s.last = s.before.time = s.current.time = clock.Now();
}

Progress::~Progress() { EndLine(); }

bool Progress::on_line() const { return state_->on_line; }

void Progress::EndLine() {
  if (std::exchange(state_->on_line, false)) std::fputc('\n', stderr);
}

void Progress::Update(uint64_t done, uint64_t total) {
  State& s = *state_;
  const MonotonicTime now = clock_.Now();
  const double rate = s.Rate(now, done);
  const bool due = now - s.last >= (s.terminal ? kTerminalInterval : kPlainInterval);
  const bool finished = total > 0 && done >= total;
  if (now - s.begin < kShowAfter || !(due || (finished && s.shown))) return;
  s.last = now;
  s.shown = true;
  std::string line = absl::StrCat(s.what, ": ");
  if (total > 0) {
    const double share = static_cast<double>(done) / static_cast<double>(total);
    absl::StrAppendFormat(&line, "%.0f %%, %s", share * 100, HumanBytesOf(done, total));
  } else {
    absl::StrAppend(&line, HumanBytes(done));
  }
  absl::StrAppend(&line, ", ", HumanBytes(static_cast<uint64_t>(std::llround(rate))),
                  " per second");
  if (rate > 0 && total > 0) {
    const double left = total > done ? static_cast<double>(total - done) / rate : 0;
    absl::StrAppend(&line, ", ", HumanTime(absl::Seconds(left)), " left");
  }
  if (s.terminal) {
    absl::FPrintF(stderr, "\r%s\x1b[K", line);
    std::fflush(stderr);
    s.on_line = true;
  } else {
    absl::FPrintF(stderr, "%s\n", line);
  }
}

}  // namespace engram
