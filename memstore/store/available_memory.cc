#include "memstore/store/available_memory.h"

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace engram {
namespace {

// Version 1 of control groups writes "no limit" as the largest number of pages there can be.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

// The names of a control group's files, which differ between the two versions.
struct GroupFiles {
  absl::string_view mount;
  absl::string_view limit;
  absl::string_view usage;
  absl::string_view inactive_cache;
  absl::string_view active_cache;
};
constexpr GroupFiles kVersion2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file",
                                  "active_file"};
constexpr GroupFiles kVersion1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                  "memory.usage_in_bytes", "total_inactive_file",
                                  "total_active_file"};

std::vector<std::string> ReadLines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The number behind `name` in lines of "NAME NUMBER ..." or "NAME: NUMBER ...".
std::optional<uint64_t> NumberOf(const std::vector<std::string>& lines, absl::string_view name) {
  for (const std::string& line : lines) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    uint64_t number = 0;
    if (words.size() >= 2 && words[0] == name && absl::SimpleAtoi(words[1], &number)) return number;
  }
  return std::nullopt;
}

// The number that is all of a file; none for "max" and where there is no file.
std::optional<uint64_t> NumberIn(const std::string& path) {
  const std::vector<std::string> lines = ReadLines(path);
  uint64_t number = 0;
  if (lines.empty() || !absl::SimpleAtoi(lines[0], &number)) return std::nullopt;
  return number;
}

std::optional<uint64_t> AvailableInGroup(const std::string& directory, const GroupFiles& files) {
  const std::optional<uint64_t> limit = NumberIn(absl::StrCat(directory, "/", files.limit));
  const std::optional<uint64_t> usage = NumberIn(absl::StrCat(directory, "/", files.usage));
  if (!limit || !usage || *limit >= kNoLimit) return std::nullopt;
  const std::vector<std::string> stat = ReadLines(directory + "/memory.stat");
  const uint64_t cache = NumberOf(stat, files.inactive_cache).value_or(0) +
                         NumberOf(stat, files.active_cache).value_or(0);
  const uint64_t held = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, held);
}

std::optional<uint64_t> LimitOfGroup(const std::string& directory, const GroupFiles& files) {
  const std::optional<uint64_t> limit = NumberIn(absl::StrCat(directory, "/", files.limit));
  return limit && *limit < kNoLimit ? limit : std::nullopt;
}

// What a group has in `directory`; nothing where it has no limit.
using BytesOfGroup = std::optional<uint64_t> (*)(const std::string& directory,
                                                 const GroupFiles& files);

// The group and all above it have limits; a path that is not there is one seen from outside a
// container.
void LimitByGroup(const std::string& root, const GroupFiles& files, std::string group,
                  BytesOfGroup bytes_of, AvailableMemory* available) {
  while (!group.empty() && group.back() == '/') group.pop_back();
  for (;;) {
    const std::optional<uint64_t> bytes = bytes_of(absl::StrCat(root, files.mount, group), files);
    if (bytes && *bytes < available->bytes) {
      *available = {*bytes, absl::StrCat("the control group ", group.empty() ? "/" : group)};
    }
    if (group.empty()) return;
    group.resize(group.rfind('/'));
  }
}

// The least of what the machine has and what its control groups have.
AvailableMemory ReadLeast(const std::string& root, absl::string_view of_machine,
                          BytesOfGroup bytes_of) {
  AvailableMemory available;
  if (const auto kib = NumberOf(ReadLines(root + "/proc/meminfo"), of_machine)) {
    available = {*kib * 1024, "the machine's memory"};
  }
  for (const std::string& line : ReadLines(root + "/proc/self/cgroup")) {  // "7:cpu,memory:/group"
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3 || !absl::StartsWith(fields[2], "/")) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(fields[1], ',');
    if (fields[1].empty()) {
      LimitByGroup(root, kVersion2, fields[2], bytes_of, &available);
    } else if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      LimitByGroup(root, kVersion1, fields[2], bytes_of, &available);
    }
  }
  return available;
}

}  // namespace

AvailableMemory ReadAvailableMemory(const std::string& root) {
  return ReadLeast(root, "MemAvailable", AvailableInGroup);
}

AvailableMemory ReadMemoryLimit(const std::string& root) {
  return ReadLeast(root, "MemTotal", LimitOfGroup);
}

uint64_t ReadReservedHugePageBytes(const std::string& root) {
  const std::optional<uint64_t> pages =
      NumberIn(root + "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
  return pages.value_or(0) << 21;
}

}  // namespace engram
