// What the kernel says of this process, for metrics and the status page: a value, read when
// somebody looks.
//
// Stateless, thread-safe. Cost: three small files of /proc and one look at the list of descriptors,
// some tens of microseconds.
#pragma once

#include <cstdint>
#include <string>

namespace engram {

// Of the machine, or of what a container sees of it; 0 where there are none.
struct ReservedHugePages {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
};

struct ProcessStats {
  double cpu_seconds = 0;       // user and system, all threads
  uint64_t resident_bytes = 0;  // reserved huge pages left out, as the kernel does
  uint64_t virtual_bytes = 0;
  uint32_t threads = 0;
  uint32_t open_files = 0;
  uint64_t most_open_files = 0;  // the limit as it is
  ReservedHugePages huge_pages;
};

// Of /proc/self/stat and /proc/meminfo as text; what cannot be read there stays 0.
void ParseProcStat(const std::string& text, double ticks_per_second, ProcessStats* stats);
void ParseMeminfo(const std::string& text, ProcessStats* stats);

ProcessStats ReadProcessStats();

}  // namespace engram
