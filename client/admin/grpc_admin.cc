#include "client/admin/grpc_admin.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/grpc/blocking_call.h"
#include "client/transport/grpc/connect_probe.h"
#include "client/transport/grpc/grpc_channel.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/grpc/grpc_deadline.h"
#include "client/transport/grpc/queue_driver.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "proto/engram/v1/admin.grpc.pb.h"

namespace engram {
namespace {

// What is no load ends within this.
constexpr absl::Duration kCallTime = absl::Seconds(10);
// What a server of HTTP takes for an answer, and more.
constexpr absl::Duration kAskWhat = absl::Milliseconds(200);

Provenance ProvenanceOf(const v1::Provenance& message) {
  Provenance provenance{.source_kind = message.source_kind(),
                        .path = message.path(),
                        .repository = message.repository(),
                        .revision = message.revision(),
                        .index_sha256 = message.index_sha256(),
                        .headers_sha256 = message.headers_sha256(),
                        .stored_constants = message.stored_constants(),
                        .packer_version = message.packer_version(),
                        .packed_at = absl::UnixEpoch()};
  std::string why;
  absl::ParseTime(absl::RFC3339_full, message.packed_at(), &provenance.packed_at, &why);
  return provenance;
}

AdminTableSet FromMessage(const v1::TableSetEntry& entry) {
  AdminTableSet set{.name = entry.name(),
                    .id = entry.id(),
                    .directory = entry.directory(),
                    .state = entry.state(),
                    .resident_bytes = entry.resident_bytes(),
                    .held_bytes = entry.held_bytes(),
                    .table_bytes = entry.table_bytes(),
                    .held = entry.held(),
                    .pages = entry.page_kind(),
                    .mapped = entry.mapped_leases(),
                    .rings = entry.ring_leases(),
                    .rdma = entry.rdma_leases(),
                    .rdma_read = entry.rdma_read_leases(),
                    .holdings = entry.holdings_leases(),
                    .idle_s = std::nullopt,
                    .age_s = entry.age_s(),
                    .missed = std::nullopt,
                    .provenance = std::nullopt};
  if (entry.has_idle_s()) set.idle_s = entry.idle_s();
  if (entry.has_generation()) set.generation = entry.generation();
  if (entry.has_missed()) set.missed = entry.missed();
  if (entry.has_provenance()) set.provenance = ProvenanceOf(entry.provenance());
  return set;
}

}  // namespace

struct AdminClient::Connection {
  std::string address;
  std::shared_ptr<const GrpcCredentials> credentials;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Admin::Stub> stub;
  Clock* clock = nullptr;
  std::shared_ptr<QueueDriver> driver;  // of calls that answer at once

  // Readies a call for as long as its work takes.
  void PrepareLong(grpc::ClientContext* context) const { credentials->Apply(context); }

  // A call that answers at once: `method` is the stub's.
  template <typename Request, typename Response>
  grpc::Status CallShort(std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> (
                             v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&,
                                                       grpc::CompletionQueue*),
                         const Request& request, Response* response) const {
    const MonotonicTime deadline = clock->After(kCallTime);
    grpc::ClientContext context;
    context.set_deadline(GrpcDeadline(deadline, *clock));
    credentials->Apply(&context);
    const auto reader = (stub.get()->*method)(&context, request, driver->queue());
    return BlockingCall(*driver, *channel, *clock).Finish(context, *reader, response, deadline);
  }
  grpc::Status List(v1::ListResponse* response) const {
    return CallShort(&v1::Admin::Stub::AsyncList, v1::ListRequest(), response);
  }

  absl::Status StatusOf(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    ENGRAM_RETURN_IF_ERROR(CheckHandshake(status));
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
        status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      ENGRAM_RETURN_IF_ERROR(CheckNoOtherServer(address, "--admin-grpc-listen", kAskWhat));
    }
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      return absl::UnavailableError(absl::StrCat(
          "no answer from the operators' port ", address, " (", PeerWords(status),
          "): is this what engramd --admin-grpc-listen says, and does it serve already?"));
    }
    // gRPC's own answer where no such service is: engramd's is never without words.
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
      return absl::UnimplementedError(
          absl::StrCat(address,
                       " answers gRPC but not Engram's administration: is it engramd's port for "
                       "lookups (--listen)? Give the address of --admin-grpc-listen"));
    }
    return FromGrpc(status, address);
  }

  // UNAUTHENTICATED where a call ended so because the two sides do not take each other's
  // certificates. What changes nothing, List, is asked as often as it takes to know that: a call
  // that engramd answers is made once, and so counted once where it is refused.
  absl::Status CheckHandshake(const grpc::Status& ended) const {
    HandshakeWatch handshake(*credentials, address);
    ENGRAM_RETURN_IF_ERROR(handshake.Observe(ended));
    while (handshake.undecided()) {
      v1::ListResponse response;
      ENGRAM_RETURN_IF_ERROR(handshake.Observe(List(&response)));
    }
    return absl::OkStatus();
  }
};

namespace {

// A stream that ended with OK and said no outcome: of a proxy, say, or of no engramd.
absl::Status EndedEarly(const std::string& address) {
  return absl::UnavailableError(absl::StrCat(
      address, ": the answer ended before it said what came of it: is that an engramd?"));
}

}  // namespace

AdminClient::AdminClient(std::unique_ptr<Connection> connection)
    : connection_(std::move(connection)) {}
AdminClient::~AdminClient() = default;

absl::StatusOr<std::unique_ptr<AdminClient>> AdminClient::Create(const std::string& address,
                                                                 const SecurityOptions& security,
                                                                 Clock& clock) {
  auto connection = std::make_unique<Connection>();
  ENGRAM_ASSIGN_OR_RETURN(connection->credentials,
                          GrpcCredentials::Create(security, address, clock));
  connection->address = address;
  connection->channel = OpenChannel(address, *connection->credentials);
  connection->stub = v1::Admin::NewStub(connection->channel);
  ENGRAM_ASSIGN_OR_RETURN(connection->driver, QueueDriver::Create(absl::ZeroDuration(), clock));
  connection->clock = &clock;
  return std::unique_ptr<AdminClient>(new AdminClient(std::move(connection)));
}

absl::StatusOr<AdminPublished> AdminClient::Publish(const std::string& directory,
                                                    std::optional<uint64_t> generation,
                                                    const Progress& progress) {
  grpc::ClientContext context;
  connection_->PrepareLong(&context);
  v1::PublishRequest request;
  request.set_directory(directory);
  if (generation) request.set_generation(*generation);
  const auto reader = connection_->stub->Publish(&context, request);
  v1::PublishProgress message;
  while (reader->Read(&message)) progress(message.bytes_done(), message.bytes_total());
  ENGRAM_RETURN_IF_ERROR(connection_->StatusOf(reader->Finish()));
  if (message.id().empty()) return EndedEarly(connection_->address);
  if (generation && message.generation() != *generation) {
    return absl::UnimplementedError(absl::StrCat(
        "engramd at ", connection_->address, " published table set ", MessageLine(message.id()),
        ", but is older and has not seen generation ", *generation, ": update it"));
  }
  return AdminPublished{.name = message.name(),
                        .id = message.id(),
                        .bytes = message.bytes_total(),
                        .warning = MessageLine(message.warning(), kMaxPeerWordsBytes),
                        .is_note = message.is_note(),
                        .generation = message.generation()};
}

absl::StatusOr<AdminRetired> AdminClient::Retire(const std::string& id_or_name) {
  v1::RetireRequest request;
  request.set_table_set(id_or_name);
  v1::RetireResponse response;
  ENGRAM_RETURN_IF_ERROR(connection_->StatusOf(
      connection_->CallShort(&v1::Admin::Stub::AsyncRetire, request, &response)));
  return AdminRetired{.name = response.name(),
                      .id = response.id(),
                      .grace_s = response.grace_s(),
                      .was_fenced = response.was_fenced()};
}

absl::StatusOr<AdminList> AdminClient::List() {
  v1::ListResponse response;
  ENGRAM_RETURN_IF_ERROR(connection_->StatusOf(connection_->List(&response)));
  AdminList list{.state = response.state(), .table_sets = {}, .loading = std::nullopt};
  for (const v1::TableSetEntry& entry : response.table_sets()) {
    list.table_sets.push_back(FromMessage(entry));
  }
  if (response.has_loading()) {
    list.loading = AdminLoading{.directory = response.loading().directory(),
                                .bytes_done = response.loading().bytes_done(),
                                .bytes_total = response.loading().bytes_total()};
  }
  if (response.has_ready()) list.ready = response.ready();
  list.why_not_ready = MessageLine(response.why_not_ready(), kMaxPeerWordsBytes);
  return list;
}

absl::StatusOr<uint64_t> AdminClient::Scrub(const Progress& progress) {
  grpc::ClientContext context;
  connection_->PrepareLong(&context);
  const auto reader = connection_->stub->Scrub(&context, {});
  v1::ScrubReport report;
  while (reader->Read(&report)) progress(report.bytes_done(), report.bytes_total());
  ENGRAM_RETURN_IF_ERROR(connection_->StatusOf(reader->Finish()));
  if (report.damages_size() > 0) {
    return absl::DataLossError(MessageLine(report.damages(0), kMaxPeerWordsBytes));
  }
  if (!report.done()) return EndedEarly(connection_->address);
  return report.bytes_total();
}

}  // namespace engram
