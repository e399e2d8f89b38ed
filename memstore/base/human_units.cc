#include "memstore/base/human_units.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace engram {
namespace {

constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
// From here on the next smaller unit says nothing that matters.
constexpr int64_t kMostSeconds = 90;
constexpr int64_t kMostMinutes = 90;
constexpr int64_t kMostHours = 48;

struct Unit {
  int index = 0;
  double bytes = 1;
};

// The largest of which there is one, as it is shown: 1023.96 KiB would be "1024.0 KiB".
Unit UnitOf(uint64_t bytes) {
  Unit unit;
  while (static_cast<double>(bytes) / unit.bytes >= 1023.95 && unit.index < 6) {
    ++unit.index;
    unit.bytes *= 1024;
  }
  return unit;
}

std::string In(const Unit& unit, uint64_t bytes) {
  if (unit.index == 0) return absl::StrCat(bytes);
  return absl::StrFormat("%.1f", static_cast<double>(bytes) / unit.bytes);
}

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  if (bytes == 1) return "1 byte";
  const Unit unit = UnitOf(bytes);
  return absl::StrCat(In(unit, bytes), " ", kUnits[unit.index]);
}

std::string ExactBytes(uint64_t bytes) {
  const std::string human = HumanBytes(bytes);
  return UnitOf(bytes).index == 0 ? human : absl::StrCat(bytes, " bytes (", human, ")");
}

std::string HumanBytesOf(uint64_t done, uint64_t total) {
  const Unit unit = UnitOf(total);
  return absl::StrCat(In(unit, done), " of ", In(unit, total), " ", kUnits[unit.index]);
}

std::string HumanTime(absl::Duration span) {
  if (span == absl::InfiniteDuration()) return "for ever";
  const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(span, absl::Seconds(1)));
  if (seconds <= 0) return "0 s";
  if (seconds < kMostSeconds) return absl::StrCat(seconds, " s");
  const int64_t minutes = (seconds + 59) / 60;
  if (minutes < kMostMinutes) return absl::StrCat(minutes, " min");
  const int64_t hours = minutes / 60;
  if (hours < kMostHours) return absl::StrCat(hours, " h ", minutes % 60, " min");
  return absl::StrCat(hours / 24, " d ", hours % 24, " h");
}

std::string Counted(uint64_t count, absl::string_view one, absl::string_view many) {
  if (count == 1) return absl::StrCat("1 ", one);
  return many.empty() ? absl::StrCat(count, " ", one, "s") : absl::StrCat(count, " ", many);
}

}  // namespace engram
