#include "memstore/store/resident_pages.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace engram {
namespace {

constexpr uint64_t kKib = 1024;

// What smaps says of one mapping, in bytes.
struct Counted {
  uint64_t resident = 0;  // hugetlb pages are not among these
  uint64_t transparent_huge = 0;
  uint64_t hugetlb = 0;
};

// The first line of a mapping, "begin-end permissions offset ..."; false: another line.
bool ReadRange(absl::string_view line, AddressRange& range) {
  const char* const end = line.data() + line.size();
  const auto begin = std::from_chars(line.data(), end, range.begin, 16);
  if (begin.ec != std::errc() || begin.ptr == end || *begin.ptr != '-') return false;
  return std::from_chars(begin.ptr + 1, end, range.end, 16).ec == std::errc();
}

// "Rss:   12 kB"; others are passed over.
void ReadCount(absl::string_view line, Counted& counted) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(line, absl::MaxSplits(':', 1));
  const absl::string_view name = parts.first;
  uint64_t* sum = nullptr;
  if (name == "Rss") sum = &counted.resident;
  if (name == "AnonHugePages" || name == "ShmemPmdMapped") sum = &counted.transparent_huge;
  if (name == "Private_Hugetlb" || name == "Shared_Hugetlb") sum = &counted.hugetlb;
  if (sum == nullptr) return;
  const std::vector<absl::string_view> words =
      absl::StrSplit(parts.second, ' ', absl::SkipWhitespace());
  uint64_t kib = 0;
  if (!words.empty() && absl::SimpleAtoi(words[0], &kib)) *sum += kib * kKib;
}

uint64_t Overlap(const AddressRange& one, const AddressRange& other) {
  const uintptr_t begin = std::max(one.begin, other.begin);
  const uintptr_t end = std::min(one.end, other.end);
  return begin < end ? end - begin : 0;
}

// `bytes` of a mapping, as much of them as the range has of it.
uint64_t Share(uint64_t bytes, uint64_t overlap, uint64_t mapped) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bytes) * overlap / mapped);
}

void AddMapping(const AddressRange& mapping, const Counted& counted,
                absl::Span<const AddressRange> ranges, std::vector<ResidentPages>& pages) {
  const uint64_t mapped = Overlap(mapping, mapping);
  const uint64_t small = counted.resident - std::min(counted.resident, counted.transparent_huge);
  for (size_t i = 0; i < ranges.size(); ++i) {
    const uint64_t overlap = Overlap(mapping, ranges[i]);
    if (overlap == 0) continue;
    pages[i].hugetlb += Share(counted.hugetlb, overlap, mapped);
    pages[i].transparent_huge += Share(counted.transparent_huge, overlap, mapped);
    pages[i].small += Share(small, overlap, mapped);
  }
}

}  // namespace

ResidentPages& ResidentPages::operator+=(const ResidentPages& other) {
  hugetlb += other.hugetlb;
  transparent_huge += other.transparent_huge;
  small += other.small;
  return *this;
}

std::vector<ResidentPages> CountResidentPages(std::istream& smaps,
                                              absl::Span<const AddressRange> ranges) {
  std::vector<ResidentPages> pages(ranges.size());
  AddressRange mapping;
  Counted counted;
  std::string line;
  while (std::getline(smaps, line)) {
    AddressRange next;
    if (ReadRange(line, next)) {
      AddMapping(mapping, counted, ranges, pages);
      mapping = next;
      counted = {};
    } else {
      ReadCount(line, counted);
    }
  }
  AddMapping(mapping, counted, ranges, pages);
  return pages;
}

absl::StatusOr<std::vector<ResidentPages>> ReadResidentPages(
    absl::Span<const AddressRange> ranges) {
  std::ifstream smaps("/proc/self/smaps");
  if (!smaps || smaps.peek() == std::ifstream::traits_type::eof()) {
    return absl::UnavailableError(
        "/proc/self/smaps cannot be read: on which pages the tables lie is not known");
  }
  return CountResidentPages(smaps, ranges);
}

}  // namespace engram
