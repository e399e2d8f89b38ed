#include "memstore/os/process_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "absl/strings/numbers.h"
#include "memstore/os/posix_file.h"

namespace engram {

MemoryOfProcess ReadProcessMemory() {
  std::array<char, 128> text;  // seven numbers
  const FileDescriptor file(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
  const ssize_t got = file.is_open() ? read(file.get(), text.data(), text.size()) : -1;
  if (got <= 0) return {};
  return ParseProcessMemory({text.data(), static_cast<size_t>(got)},
                            static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

// proc(5): pages of the address space, then those that are resident.
MemoryOfProcess ParseProcessMemory(absl::string_view text, uint64_t page_bytes) {
  const size_t first = text.find(' ');
  if (first == absl::string_view::npos) return {};
  const absl::string_view rest = text.substr(first + 1);
  uint64_t pages = 0, resident = 0;
  if (!absl::SimpleAtoi(text.substr(0, first), &pages) ||
      !absl::SimpleAtoi(rest.substr(0, rest.find(' ')), &resident)) {
    return {};
  }
  return {pages * page_bytes, resident * page_bytes};
}

}  // namespace engram
