// How many rows ahead the gather prefetches, measured on the machine and the memory at hand.
//
// The width's default was found on one processor. On others, and on other kinds of page, twice to
// four times as far is up to a third faster; which it is only the machine can tell. Calibrating
// takes turns through some distances on rows of the table itself and takes another than the default
// only where it is clearly better, so a busy machine costs what could have been gained and no more.
// No state: the result goes into GatherTable::ahead_rows of whoever gathers.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/gather/gather.h"

namespace engram {

// One distance, and the least that a row took with it in any round.
struct AheadTiming {
  uint32_t rows = 0;
  double ns_a_row = 0;
};

struct GatherCalibration {
  // Why it is what it is: the width's default because nothing was measured (a table that caches
  // hold), the default or another one because of what was measured, or because an operator said so.
  enum class Source : uint8_t { kDefault, kMeasured, kGiven };

  uint32_t ahead_rows = 0;
  Source source = Source::kDefault;
  AheadTiming standard;  // the width's default; no time where nothing was measured
  AheadTiming chosen;

  // "32 rows ahead, measured: 38.1 ns a row, 51.0 with the default of 12", for log lines.
  std::string ToString() const;
};

// A given distance, 1..kMostAheadRows.
GatherCalibration GivenAhead(const GatherTable& table, uint32_t ahead_rows);

// Measures on `table`, whose rows are resident, and which others may read meanwhile. Takes 5 to
// kMostCalibration in the caller's thread; nothing at all for tables below kLeastTableBytes, which
// caches hold.
inline constexpr absl::Duration kMostCalibration = absl::Milliseconds(30);
inline constexpr uint64_t kLeastTableBytes = uint64_t{128} << 20;
GatherCalibration CalibrateGather(const GatherTable& table, const Clock& clock);

// The choice among timings, of which the first is the default's: the default, unless the best is
// clearly better; then the nearest of those that are about as good as the best.
AheadTiming ChooseAhead(absl::Span<const AheadTiming> timings);

}  // namespace engram
