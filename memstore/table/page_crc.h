// CRC32C of whole pages and of each page among them, in one pass.
//
// Stateless, thread-safe. Cost: that of one CRC32C over the bytes and four table look-ups a page,
// so a block's checksum and its pages' together cost what the block's alone does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace engram {

// The CRC32C of `pages`, pages of kShardPageBytes (shard_layout.h); those of each page go to
// `page_checksums`, which has a place for each.
uint32_t Crc32cOfPages(absl::Span<const std::byte> pages, absl::Span<uint32_t> page_checksums);

}  // namespace engram
