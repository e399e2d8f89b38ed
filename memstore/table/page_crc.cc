#include "memstore/table/page_crc.h"

#include <isa-l.h>

#include <vector>

#include "memstore/base/check.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

constexpr uint32_t kInitial = 0xFFFFFFFF;  // CRC32C's initial value, and its final XOR

// The remainder alone, without CRC32C's final XOR: linear in the bytes and in `crc`, on which all
// of this stands.
uint32_t Remainder(absl::Span<const std::byte> page, uint32_t crc) {
  // The library's pointer is not const, though it only reads.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(page.data()));
  return crc32_iscsi(data, static_cast<int>(page.size()), crc);
}

// What a page of zeros makes of a remainder, by what it makes of each byte of it.
class PageShift {
 public:
  PageShift() {
    const std::vector<std::byte> zeros(kShardPageBytes);
    for (uint32_t byte = 0; byte < 4; ++byte) {
      for (uint32_t value = 0; value < 256; ++value) {
        of_[byte][value] = Remainder(zeros, value << (8 * byte));
      }
    }
  }
  uint32_t operator()(uint32_t crc) const {
    return of_[0][crc & 0xFF] ^ of_[1][crc >> 8 & 0xFF] ^ of_[2][crc >> 16 & 0xFF] ^
           of_[3][crc >> 24];
  }

 private:
  uint32_t of_[4][256];
};

}  // namespace

uint32_t Crc32cOfPages(absl::Span<const std::byte> pages, absl::Span<uint32_t> page_checksums) {
  ENGRAM_CHECK(pages.size() == page_checksums.size() * kShardPageBytes,
               "page checksums are asked of something else than whole pages");
  static const PageShift shift;
  const uint32_t initial_behind_page = shift(kInitial);
  uint32_t crc = kInitial;
  for (size_t i = 0; i < page_checksums.size(); ++i) {
    const uint32_t page = Remainder(pages.subspan(i * kShardPageBytes, kShardPageBytes), 0);
    page_checksums[i] = ~(initial_behind_page ^ page);
    crc = shift(crc) ^ page;
  }
  return ~crc;
}

}  // namespace engram
