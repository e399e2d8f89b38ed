#include "server/shm/handshake.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/shm/held_tables.h"
#include "memstore/shm/ring.h"
#include "proto/wire/features.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

// Zeros where there is no more of it.
ShmRequest BeginningOf(absl::Span<const std::byte> bytes) {
  ShmRequest request{};
  if (!bytes.empty()) {  // of none there may be no place either
    std::memcpy(&request, bytes.data(), std::min(bytes.size(), sizeof(request)));
  }
  return request;
}

ShmReply EmptyReply() {
  ShmReply reply{};
  std::memcpy(reply.magic, kShmMagic, sizeof(kShmMagic));
  reply.version = kShmVersion;
  return reply;
}

void SetMessage(absl::string_view text, ShmReply* reply) {
  text = text.substr(0, kShmMessageBytes);
  reply->message_bytes = static_cast<uint32_t>(text.size());
  std::copy(text.begin(), text.end(), reply->message);
}

absl::Status Add(absl::StatusOr<FileDescriptor> made, ShmGrant* grant) {
  if (!made.ok()) return made.status();
  grant->descriptors.push_back(made->get());
  grant->own.push_back(*std::move(made));
  return absl::OkStatus();
}

absl::Status AddTables(const TableSet& set, ShmGrant* grant) {
  const size_t most =
      std::min<size_t>(kShmMaxMappedLayers, kShmMaxDescriptors - grant->descriptors.size());
  if (set.layers().size() > most) {
    return absl::UnimplementedError(absl::StrCat("a set of ", set.layers().size(),
                                                 " layers is not mapped, at most ", most, " are"));
  }
  for (size_t i = 0; i < set.layers().size(); ++i) {
    const FileDescriptor& table = set.arena(i).memfd();
    if (!table.is_open()) {
      return absl::UnimplementedError("its tables were not loaded into shared memory");
    }
    grant->descriptors.push_back(table.get());
  }
  return absl::OkStatus();
}

absl::Status AddRing(ShmGrant* grant) {
  absl::StatusOr<FileDescriptor> memfd =
      CreateMemfd("engram-ring", kRingBytes, MemfdPages::kAsTheKernelChooses);
  if (!memfd.ok()) return memfd.status();
  // Now, where lacking memory is an error of this client's, and not later by a fault of ours.
  if (fallocate(memfd->get(), 0, 0, kRingBytes) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for another ring of ", kRingBytes,
                                                     " bytes: ", strerrordesc_np(errno)));
  }
  absl::Status status = AddSeals(*memfd, kWritableSeals);
  if (!status.ok()) return status;
  absl::StatusOr<Mapping> region = MapMemfd(*memfd, kRingBytes, Access::kReadWrite);
  if (!region.ok()) return region.status();
  grant->ring = *std::move(region);
  return Add(std::move(memfd), grant);
}

// Of an owner that holds a part of the set.
absl::Status AddHeldRows(const TableSet& set, const ParsedShmRequest& request, ShmGrant* grant) {
  if (!request.takes_held_rows) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this engramd holds a part of table set ", set.name(),
        " (--partition), and the client is older than that: update it, or attach over gRPC"));
  }
  std::vector<HeldTable> tables;
  for (size_t i = 0; i < set.held().size(); ++i) {
    tables.push_back({set.held()[i], set.arena(i).pieces()});
  }
  SetMessage(absl::StrCat(kEngramVersion, " ", wire::kHeldRows), &grant->reply);
  return Add(SealedCopy("engram-held-rows", WriteHeldTables(tables)), grant);
}

}  // namespace

bool IsOfAnotherVersion(absl::Span<const std::byte> bytes) {
  const ShmRequest request = BeginningOf(bytes);
  return std::memcmp(request.magic, kShmMagic, sizeof(kShmMagic)) == 0 &&
         request.version != kShmVersion;
}

absl::StatusOr<ParsedShmRequest> ParseShmRequest(absl::Span<const std::byte> bytes) {
  const ShmRequest request = BeginningOf(bytes);
  if (std::memcmp(request.magic, kShmMagic, sizeof(kShmMagic)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the first ", sizeof(kShmMagic), " of ", bytes.size(),
        " bytes are not those of a request for shared memory: attach to shm:SOCKET with a client "
        "of engram's"));
  }
  if (IsOfAnotherVersion(bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("this engramd speaks version ", kShmVersion,
                                                   " of shared memory, the client ",
                                                   request.version, ": update the older one"));
  }
  if (bytes.size() != sizeof(request)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request has ", sizeof(request), " bytes, not ", bytes.size()));
  }
  const auto mode = static_cast<ShmMode>(request.mode);
  if (mode != ShmMode::kMapped && mode != ShmMode::kRing) {
    return absl::InvalidArgumentError(
        absl::StrCat("mode ", request.mode, " of shared memory is not known: ask for ",
                     static_cast<uint32_t>(ShmMode::kMapped), " (mapped) or ",
                     static_cast<uint32_t>(ShmMode::kRing), " (ring)"));
  }
  if (request.table_set_bytes > kShmTableSetBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the name of a table set has at most ",
                                                   kShmTableSetBytes, " bytes, not ",
                                                   request.table_set_bytes));
  }
  return ParsedShmRequest{.mode = mode,
                          .table_set = std::string(request.table_set, request.table_set_bytes),
                          .takes_image_token_ids = (request.takes & kShmTakesImageTokenIds) != 0,
                          .takes_held_rows = (request.takes & kShmTakesHeldRows) != 0};
}

absl::StatusOr<ShmGrant> GrantShmRequest(const ParsedShmRequest& request,
                                         const TableSetRegistry& registry, uint64_t max_batch_rows,
                                         MayHaveSet may_have) {
  absl::StatusOr<ServedSet> served = registry.ResolveServed(request.table_set, may_have);
  if (!served.ok()) return served.status();
  if (absl::Status status = CheckResident(*served->set, "over shared memory"); !status.ok()) {
    return status;
  }
  ShmGrant grant;
  grant.served = *std::move(served);
  grant.reply = EmptyReply();
  SetMessage(kEngramVersion, &grant.reply);
  const TableSet& set = *grant.served.set;
  if (!grant.served.control->memfd().is_open()) {
    return absl::UnavailableError("this kernel has no memory that can be shared and sealed");
  }

  absl::Status status = Add(SealedCopy("engram-manifest", set.manifest().text), &grant);
  grant.reply.manifest_bytes = set.manifest().text.size();
  if (const auto& map = set.addresser().token_map(); status.ok() && map != nullptr) {
    status = Add(SealedCopy("engram-token-map", map->bytes()), &grant);
    grant.reply.token_map_bytes = map->bytes().size();
  }
  if (!status.ok()) return status;
  grant.descriptors.push_back(grant.served.control->memfd().get());
  if (!set.row_source().holds_all()) {
    ENGRAM_RETURN_IF_ERROR(AddHeldRows(set, request, &grant));
  }
  status = request.mode == ShmMode::kMapped ? AddTables(set, &grant) : AddRing(&grant);
  if (!status.ok()) return status;
  grant.reply.descriptors = static_cast<uint32_t>(grant.descriptors.size());
  grant.reply.max_batch_rows = max_batch_rows;
  if (request.takes_image_token_ids) {
    const absl::Span<const int32_t> images = set.addresser().image_token_ids();
    grant.image_token_ids.assign(images.begin(), images.end());
  }
  std::memcpy(grant.reply.set_id, set.id().data(),
              std::min(set.id().size(), sizeof(grant.reply.set_id)));
  return grant;
}

std::vector<std::byte> ShmGrantMessage(const ShmGrant& grant) {
  const auto* const reply = reinterpret_cast<const std::byte*>(&grant.reply);
  std::vector<std::byte> message(reply, reply + sizeof(grant.reply));
  const auto* const ids = reinterpret_cast<const std::byte*>(grant.image_token_ids.data());
  message.insert(message.end(), ids, ids + grant.image_token_ids.size() * sizeof(int32_t));
  return message;
}

ShmReply ShmErrorReply(const absl::Status& status) {
  ShmReply reply = EmptyReply();
  reply.code = static_cast<uint32_t>(status.code());
  SetMessage(status.message(), &reply);
  return reply;
}

}  // namespace engram
