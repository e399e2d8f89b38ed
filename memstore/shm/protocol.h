// The handshake of shared memory, version 1: one request and one reply over a
// SOCK_SEQPACKET Unix socket, the reply with the descriptors of what is shared. The socket then
// stays open: it is the client's lease, and says nothing more. proto/FORMATS.md has the page.
//
// Plain values of fixed size, in the byte order of the machine, which both ends share. Whoever
// receives one copies it before it checks it.
#pragma once

#include <cstdint>
#include <type_traits>

namespace engram {

inline constexpr char kShmMagic[8] = {'E', 'N', 'G', 'R', 'S', 'H', 'M', '\0'};
inline constexpr uint32_t kShmVersion = 1;

// An id has 64 characters, a name at most what a file's name may have.
inline constexpr uint32_t kShmTableSetBytes = 256;
inline constexpr uint32_t kShmMessageBytes = 1024;
// Of one message: the kernel passes 253 at most. Sets with more layers are served through a ring.
inline constexpr uint32_t kShmMaxDescriptors = 128;
// Beside the tables: manifest, token map, control page.
inline constexpr uint32_t kShmOtherDescriptors = 3;
inline constexpr uint32_t kShmMaxMappedLayers = kShmMaxDescriptors - kShmOtherDescriptors;

// What a client takes beyond that, bits of ShmRequest::takes. An owner that does not know one
// leaves it out; a client that is older than these has none. Behind a reply without an error stand
// the set's image token ids, an int32 each, at most kMostImageTokenIds (proto/wire/features.h).
inline constexpr uint32_t kShmTakesImageTokenIds = 1;
// Of an owner that holds a part of the set, its held rows (held_tables.h): it gives nothing to a
// client that does not take them, which would read rows that are not there.
inline constexpr uint32_t kShmTakesHeldRows = 2;

enum class ShmMode : uint32_t { kMapped = 1, kRing = 2 };

struct ShmRequest {
  char magic[8];
  uint32_t version;
  uint32_t mode;  // ShmMode
  uint32_t table_set_bytes;
  uint32_t takes;                     // kShmTakes...
  char table_set[kShmTableSetBytes];  // id or name; empty: the only one
};

// Descriptors follow in this order: manifest, token map (when the scheme has one), control page,
// held rows (when the features name them: the owner holds a part of the set), then the tables of
// all layers in the manifest's order (kMapped) or the ring's region (kRing).
struct ShmReply {
  char magic[8];
  uint32_t version;
  uint32_t code;  // absl::StatusCode; descriptors come with 0 alone
  uint32_t message_bytes;
  uint32_t descriptors;
  uint64_t manifest_bytes;
  uint64_t token_map_bytes;
  uint64_t max_batch_rows;  // of a ring
  char set_id[64];
  // Of an error. With code 0: the owner's version, then the features of this reply beyond version 1
  // of the handshake (kHeldRows of proto/wire/features.h), with blanks between them.
  // Empty: an owner that is older than features. Clients of any version read one of any other.
  char message[kShmMessageBytes];
};

static_assert(std::is_trivially_copyable_v<ShmRequest> && sizeof(ShmRequest) == 280);
static_assert(std::is_trivially_copyable_v<ShmReply> && sizeof(ShmReply) == 1136);

}  // namespace engram
