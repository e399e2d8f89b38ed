#include "client/transport/shm/shm_attach.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/transport/attach_check.h"
#include "client/transport/shm/mapped_gather.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "memstore/base/stoppable_sleep.h"
#include "memstore/os/unix_socket.h"
#include "memstore/shm/held_tables.h"
#include "memstore/shm/ring.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// How often the control page is looked at by who follows a name.
constexpr absl::Duration kLookInterval = absl::Milliseconds(50);

constexpr absl::Duration kRetry = absl::Milliseconds(50);
constexpr absl::Duration kMinAttachTime = absl::Milliseconds(200);
// Maps of ten million ids, far above any tokenizer.
constexpr uint64_t kMaxTokenMapBytes = 40 << 20;
// The padding of a layer's last shard and of a huge page.
constexpr uint64_t kMaxTablePadding = 4 << 20;

// Connected; ABORTED while nobody is there.
absl::StatusOr<FileDescriptor> Connect(const std::string& path) {
  sockaddr_un address;
  if (!MakeUnixAddress(path, &address)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is too long for a socket's path"));
  }
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return absl::ErrnoToStatus(errno, "cannot make a socket");
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return socket;
  }
  const int error = errno;
  if (error == ENOENT || error == ECONNREFUSED || error == EAGAIN || error == EINTR) {
    return absl::AbortedError(strerrordesc_np(error));
  }
  if (error == EPROTOTYPE || error == ENOTSOCK) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        " is another kind of socket: name the one of engramd --shm-socket (for gRPC write "
        "grpc:unix:",
        path, ")"));
  }
  return absl::ErrnoToStatus(error, absl::StrCat("cannot connect to ", path));
}

ShmRequest MakeRequest(const std::string& table_set, ShmMode mode) {
  ShmRequest request{};
  std::memcpy(request.magic, kShmMagic, sizeof(kShmMagic));
  request.version = kShmVersion;
  request.mode = static_cast<uint32_t>(mode);
  request.table_set_bytes = static_cast<uint32_t>(table_set.size());
  request.takes = kShmTakesImageTokenIds | kShmTakesHeldRows;
  std::memcpy(request.table_set, table_set.data(), table_set.size());
  return request;
}

struct Answer {
  ShmReply reply;
  std::vector<int32_t> image_token_ids;
  std::vector<FileDescriptor> descriptors;
};

// A reply and what is behind it. False: it is neither a reply nor one with image token ids.
bool TakeReply(absl::Span<const std::byte> message, Answer* answer) {
  ShmReply& reply = answer->reply;
  if (message.size() < sizeof(reply)) return false;
  std::memcpy(&reply, message.data(), sizeof(reply));
  const absl::Span<const std::byte> behind = message.subspan(sizeof(reply));
  if (behind.size() % sizeof(int32_t) != 0 || (reply.code != 0 && !behind.empty())) return false;
  answer->image_token_ids.resize(behind.size() / sizeof(int32_t));
  std::copy(behind.begin(), behind.end(),
            reinterpret_cast<std::byte*>(answer->image_token_ids.data()));
  return std::memcmp(reply.magic, kShmMagic, sizeof(kShmMagic)) == 0 &&
         reply.version == kShmVersion && reply.message_bytes <= kShmMessageBytes;
}

absl::StatusOr<Answer> Ask(const FileDescriptor& socket, const ShmRequest& request,
                           absl::Duration most) {
  // A refusal may stand in the socket before the request is sent; it is read all the same.
  const absl::Status sent =
      SendMessage(socket, {reinterpret_cast<const std::byte*>(&request), sizeof(request)}, {});
  if (!sent.ok() && !absl::IsUnavailable(sent)) return sent;
  pollfd wait{socket.get(), POLLIN, 0};
  const int64_t left_ms = absl::ToInt64Milliseconds(most);
  poll(&wait, 1, static_cast<int>(std::clamp<int64_t>(left_ms, 1, 1 << 30)));
  Answer answer{};
  std::byte message[sizeof(ShmReply) + wire::kMostImageTokenIds * sizeof(int32_t)];
  absl::StatusOr<SocketMessage> received =
      ReceiveMessage(socket, absl::MakeSpan(message), kShmMaxDescriptors);
  // Gone, or silent: try again.
  if (absl::IsUnavailable(received.status())) return absl::AbortedError("it closed the socket");
  // Longer than any answer: no argument of the caller's is wrong.
  if (absl::IsInvalidArgument(received.status())) {
    return absl::DataLossError(received.status().message());
  }
  if (!received.ok()) return received.status();
  const ShmReply& reply = answer.reply;
  if (!TakeReply({message, received->bytes}, &answer)) {
    return absl::DataLossError(
        "what listens there does not speak this version of engram's shared memory: name the socket "
        "of engramd --shm-socket, of an engramd of this version");
  }
  if (reply.code != 0) {
    return absl::Status(static_cast<absl::StatusCode>(reply.code),
                        MessageLine(absl::string_view(reply.message, reply.message_bytes)));
  }
  answer.descriptors = std::move(received->descriptors);
  return answer;
}

// A copy of a small sealed memfd.
absl::StatusOr<std::string> ReadSealed(const FileDescriptor& memfd, uint64_t bytes, uint64_t most,
                                       absl::string_view what) {
  ENGRAM_ASSIGN_OR_RETURN(const Mapping mapping, MapSealed(memfd, kReadOnlySeals, Access::kRead,
                                                           bytes, std::min(bytes, most), what));
  return std::string(reinterpret_cast<const char*>(mapping.data()), bytes);
}

// What a client asks of the owner whose socket is at `path`.
struct Question {
  const std::string& path;
  const std::string& table_set;
  ShmMode mode;
};

// Manifest and token map, held against the id that came with them and against what was asked for;
// `*next` is the first descriptor after them.
absl::StatusOr<AttachedTableSet> TakeAttached(const Answer& answer, const Question& asked,
                                              size_t* next) {
  const auto take = [&] { return &answer.descriptors[(*next)++]; };
  ENGRAM_ASSIGN_OR_RETURN(const std::string manifest,
                          ReadSealed(*take(), answer.reply.manifest_bytes, kMaxManifestBytes,
                                     "the manifest that engramd sent"));
  const std::string owner = absl::StrCat("engramd at ", asked.path);
  std::string map;
  return CheckAttached(
      {.owner = owner,
       .table_set_id = absl::string_view(answer.reply.set_id, sizeof(answer.reply.set_id)),
       .manifest = manifest,
       .image_token_ids = answer.image_token_ids},
      asked.table_set, [&]() -> absl::StatusOr<absl::string_view> {
        ENGRAM_ASSIGN_OR_RETURN(map,
                                ReadSealed(*take(), answer.reply.token_map_bytes, kMaxTokenMapBytes,
                                           "the token map that engramd sent"));
        return absl::string_view(map);
      });
}

// What the owner holds, where that is a part of the set.
absl::StatusOr<std::vector<HeldTable>> TakeHeld(const FileDescriptor& memfd,
                                                const Manifest& manifest) {
  ENGRAM_ASSIGN_OR_RETURN(const Mapping mapping,
                          MapSealed(memfd, kReadOnlySeals, Access::kRead, 1, kMostHeldTablesBytes,
                                    "what engramd says of the rows that it holds"));
  std::vector<WholeTable> tables;
  for (const LayerTableSpec& layer : manifest.layers)
    tables.push_back({layer.rows, layer.row_bytes});
  return ReadHeldTables({reinterpret_cast<const char*>(mapping.data()), mapping.bytes()}, tables);
}

// The table of a layer, all of it or the pieces that the owner has.
absl::StatusOr<Mapping> MapTable(const FileDescriptor& memfd, const LayerTableSpec& layer,
                                 const HeldTable* held) {
  const uint64_t bytes = layer.rows * layer.row_bytes;
  const std::string what = absl::StrCat("the table of layer ", layer.layer);
  if (held == nullptr) {
    return MapSealed(memfd, kReadOnlySeals, Access::kRead, bytes, bytes + kMaxTablePadding, what);
  }
  return MapSealedPieces(memfd, kReadOnlySeals, bytes + kMaxTablePadding, held->pieces, what);
}

// `held` is empty where the owner has all of the set.
absl::Status MapTables(const Answer& answer, size_t next, absl::Span<const HeldTable> held,
                       const Clock& clock, ShmAttachment* attachment) {
  const std::vector<LayerTableSpec>& layers = attachment->attached.manifest.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    ENGRAM_ASSIGN_OR_RETURN(Mapping table, MapTable(answer.descriptors[next++], layers[i],
                                                    held.empty() ? nullptr : &held[i]));
    attachment->layers.push_back(
        {layers[i].layer, GatherTable{table.data(), layers[i].rows, layers[i].row_bytes}});
    attachment->memory.push_back(std::move(table));
  }
  CalibrateMapped(absl::MakeSpan(attachment->layers), attachment->attached.held, clock);
  return absl::OkStatus();
}

absl::Status MapRing(const Answer& answer, size_t next, ShmAttachment* attachment) {
  ENGRAM_ASSIGN_OR_RETURN(Mapping region,
                          MapSealed(answer.descriptors[next], kWritableSeals, Access::kReadWrite,
                                    kRingBytes, kRingBytes, "the ring"));
  const RingHeader& header = RingView(region.data()).header();
  if (std::memcmp(header.magic, kRingMagic, sizeof(kRingMagic)) != 0 ||
      header.version != kRingVersion || header.slots != kRingSlots) {
    return absl::DataLossError("the ring that engramd sent is not of this version");
  }
  attachment->memory.push_back(std::move(region));
  return absl::OkStatus();
}

// Of what a reply says that is no refusal: the first word, and whether one of the others is
// `feature`.
std::string VersionOf(const ShmReply& reply) {
  const absl::string_view said(reply.message, reply.message_bytes);
  return std::string(said.substr(0, said.find(' ')).substr(0, wire::kMostFeatureBytes));
}
bool HasFeature(const ShmReply& reply, absl::string_view feature) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(absl::string_view(reply.message, reply.message_bytes), ' ');
  return wire::HasFeature(absl::MakeSpan(words).subspan(1), feature);
}

absl::StatusOr<ShmAttachment> Check(const Answer& answer, const Question& asked,
                                    FileDescriptor socket, const Clock& clock) {
  const size_t count = answer.descriptors.size();
  const absl::Status few = absl::DataLossError(
      absl::StrCat("engramd sent ", count,
                   " descriptors, not those of the table set that it named (is the "
                   "limit of open files too low? ulimit -n)"));
  if (count != answer.reply.descriptors || count < kShmOtherDescriptors) return few;
  size_t next = 0;
  ENGRAM_ASSIGN_OR_RETURN(AttachedTableSet attached, TakeAttached(answer, asked, &next));
  const size_t shared = asked.mode == ShmMode::kRing ? 1 : attached.manifest.layers.size();
  const bool in_part = HasFeature(answer.reply, wire::kHeldRows);
  if (count != next + 1 + (in_part ? 1 : 0) + shared) return few;
  ENGRAM_ASSIGN_OR_RETURN(ControlView control,
                          ControlView::Map(answer.descriptors[next++], attached.manifest.id));
  std::vector<HeldTable> held;
  if (in_part) {
    ENGRAM_ASSIGN_OR_RETURN(held, TakeHeld(answer.descriptors[next++], attached.manifest));
    for (const HeldTable& table : held) attached.held.push_back(table.rows);
  }
  ShmAttachment attachment{.socket = std::move(socket),
                           .attached = std::move(attached),
                           .control = std::move(control),
                           .memory = {},
                           .layers = {},
                           .max_batch_rows = answer.reply.max_batch_rows,
                           .owner_version = VersionOf(answer.reply)};
  ENGRAM_RETURN_IF_ERROR(asked.mode == ShmMode::kRing
                             ? MapRing(answer, next, &attachment)
                             : MapTables(answer, next, held, clock, &attachment));
  return attachment;
}

}  // namespace

absl::StatusOr<ShmAttachment> AttachShm(const std::string& path, const std::string& table_set,
                                        ShmMode mode, absl::Duration timeout, Clock& clock) {
  if (table_set.size() > kShmTableSetBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name of a table set has at most ", kShmTableSetBytes, " bytes"));
  }
  const MonotonicTime deadline = clock.Now() + std::max(timeout, kMinAttachTime);
  while (true) {
    absl::StatusOr<FileDescriptor> socket = Connect(path);
    absl::Status status = socket.status();
    if (status.ok()) {
      const absl::StatusOr<Answer> answer =
          Ask(*socket, MakeRequest(table_set, mode), deadline - clock.Now());
      if (answer.ok()) return Check(*answer, {path, table_set, mode}, *std::move(socket), clock);
      status = answer.status();
    }
    if (!absl::IsAborted(status)) {
      return absl::Status(status.code(), absl::StrCat("engramd at ", path, ": ", status.message()));
    }
    if (clock.Now() + kRetry >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          "no engramd gave shared memory at ", path, " within ",
          absl::FormatDuration(absl::Ceil(timeout, absl::Milliseconds(1))), " (", status.message(),
          "): does one run with --shm-socket ", path, ", or is it still loading?"));
    }
    clock.SleepFor(kRetry);
  }
}

absl::Status ShmAttachment::WaitSuperseded(const std::stop_token& stop, Clock& clock) const {
  while (!stop.stop_requested()) {
    if (control.Read().state != TableSetState::kServing) return absl::OkStatus();
    SleepUnlessStopped(clock, kLookInterval, stop);
  }
  return absl::CancelledError("nobody follows the table set any more");
}

}  // namespace engram
