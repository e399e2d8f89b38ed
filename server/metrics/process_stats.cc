#include "server/metrics/process_stats.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "memstore/os/process_memory.h"

namespace engram {
namespace {

std::string ReadText(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

uint64_t Number(const std::vector<absl::string_view>& words, size_t at) {
  uint64_t value = 0;
  return at < words.size() && absl::SimpleAtoi(words[at], &value) ? value : 0;
}

uint32_t CountOpenFiles() {
  const std::unique_ptr<DIR, int (*)(DIR*)> files(opendir("/proc/self/fd"), closedir);
  if (files == nullptr) return 0;
  uint32_t count = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): of a stream that nobody else has
  while (const dirent* file = readdir(files.get())) count += file->d_name[0] == '.' ? 0 : 1;
  return count > 0 ? count - 1 : 0;  // the list's own
}

}  // namespace

// proc(5): the second word is the name in parentheses, which may hold anything; of those after it
// utime and stime are the 12th and 13th, num_threads the 18th.
void ParseProcStat(const std::string& text, double ticks_per_second, ProcessStats* stats) {
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || ticks_per_second <= 0) return;
  const std::vector<absl::string_view> words = absl::StrSplit(
      absl::string_view(text).substr(name_end + 1), absl::ByAnyChar(" \n"), absl::SkipEmpty());
  stats->cpu_seconds =
      static_cast<double>(Number(words, 11) + Number(words, 12)) / ticks_per_second;
  stats->threads = static_cast<uint32_t>(Number(words, 17));
}

void ParseMeminfo(const std::string& text, ProcessStats* stats) {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t page_kib = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.empty()) continue;
    if (words[0] == "HugePages_Total:") total = Number(words, 1);
    if (words[0] == "HugePages_Free:") free = Number(words, 1);
    if (words[0] == "Hugepagesize:") page_kib = Number(words, 1);
  }
  stats->huge_pages = {.total_bytes = total * page_kib * 1024,
                       .free_bytes = free * page_kib * 1024};
}

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  ParseProcStat(ReadText("/proc/self/stat"), static_cast<double>(sysconf(_SC_CLK_TCK)), &stats);
  const MemoryOfProcess memory = ReadProcessMemory();
  stats.virtual_bytes = memory.virtual_bytes;
  stats.resident_bytes = memory.resident_bytes;
  ParseMeminfo(ReadText("/proc/meminfo"), &stats);
  stats.open_files = CountOpenFiles();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.most_open_files = limit.rlim_cur;
  return stats;
}

}  // namespace engram
