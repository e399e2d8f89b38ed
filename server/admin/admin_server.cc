#include "server/admin/admin_server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/base/status_macros.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/base/limits.h"
#include "server/base/log.h"
#include "server/grpc/grpc_status.h"
#include "server/net/hand_to_grpc.h"
#include "server/net/no_compression.h"
#include "server/net/server_shutdown.h"
#include "server/net/socket_watch.h"

namespace engram {
namespace {

// Of reflection's calls and channelz'; those of Admin have none.
constexpr int kMaxAdminThreads = 16;
// Far more than there are operators. The next one is let in all the same, for one that was given
// next to nothing, the oldest first, or else one that says nothing.
constexpr size_t kMaxAdminConnections = 256;
// Beyond what it was answered: what operators send is paths and names.
constexpr uint64_t kMostUnansweredBytes = 256 << 10;
constexpr int kMaxAdminCalls = 16;  // of a connection, at once
// A connection that says nothing for this long makes room for another.
constexpr absl::Duration kIdle = absl::Seconds(5);

// Asks before every method of the port but Admin's: gRPC's own services ask nobody. Admin asks by
// itself (AdminService::Admit), for a call knows from where it comes, and this does not.
class Gate : public grpc::AuthMetadataProcessor {
 public:
  Gate(AccessControl* access, AdminRefusals* refusals) : access_(access), refusals_(refusals) {}
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* connection,
                       OutputMetadata*, OutputMetadata*) override {
    const auto found = metadata.find(":path");
    const absl::string_view path =
        found == metadata.end() ? absl::string_view()
                                : absl::string_view(found->second.data(), found->second.size());
    if (absl::StartsWith(path, absl::StrCat("/", v1::Admin::service_full_name(), "/"))) {
      return grpc::Status::OK;
    }
    const absl::Status status = access_->Authenticate(*connection, metadata).status();
    if (!status.ok()) {
      const std::string name = access_->NameForLog(connection, metadata);
      refusals_->Add(AdminMethod::kOther, "admin_refused", absl::StrCat("admit a call of ", path),
                     name.empty() ? "an operator" : name, status);
    }
    return ToGrpc(status);
  }

 private:
  AccessControl* const access_;
  AdminRefusals* const refusals_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const Options& options,
                                                                const AdminTargets& targets) {
  std::unique_ptr<AdminServer> admin(new AdminServer(targets, options.clock));
  ENGRAM_ASSIGN_OR_RETURN(std::vector<ListenSocket> sockets, ListenSocket::Bind(options.address));
  admin->address_ = sockets.front().address().Text();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::channelz::experimental::InitChannelzService();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(grpc::ResourceQuota("admin").SetMaxThreads(kMaxAdminThreads));
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  // gRPC parses a message before Admin can ask who sends it: let it be a small one.
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxSmallMessageBytes));
  TakeNoCompression(builder);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxAdminCalls);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES,
                             static_cast<int>(kMaxSmallMessageBytes));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             static_cast<int>(std::chrono::milliseconds(kMaxHandshake).count()));
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!options.address.is_unix() && options.tls != nullptr) {
    admin->has_tls_ = true;
    credentials = options.tls->MakeCredentials();
    credentials->SetAuthMetadataProcessor(std::make_shared<Gate>(targets.access, targets.refusals));
  }
  admin->taken_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&admin->service_);
  admin->server_ = builder.BuildAndStart();
  if (admin->server_ == nullptr) return absl::InternalError("gRPC does not start for operators");
  admin->SetServing(true);
  ENGRAM_ASSIGN_OR_RETURN(admin->acceptor_, Acceptor::Start(
                                                std::move(sockets), options.fd_limit,
                                                [raw = admin.get()](int listen_fd, int fd) {
                                                  raw->Take(listen_fd, fd);
                                                },
                                                targets.log, options.clock));
  return admin;
}

void AdminServer::Take(int listen_fd, int fd) {
  const MonotonicTime now = clock_->Now();
  if (connections_.CountOpen() >= kMaxAdminConnections &&
      connections_.EndLeastUsed(1, now, absl::ZeroDuration(), kIdle) == 0) {
    LogEvent(*log_, spdlog::level::warn, "connection_refused", {{"for", "operators"}},
             "an operator's connection is turned away: there are as many as engramd takes, and all "
             "are in use");
    close(fd);
    return;
  }
  if (const absl::Status status = WatchSocket(fd, has_tls_ ? Wire::kTls : Wire::kPlain, clock_,
                                              Whose::kOperators, kMostUnansweredBytes);
      !status.ok()) {
    LogEvent(*log_, spdlog::level::warn, "connection_refused", {{"for", "operators"}},
             absl::StrCat("an operator's connection is turned away: ", status.message()));
    close(fd);
    return;
  }
  HandToGrpc(listen_fd, fd, now, connections_, *taken_);
}

void AdminServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus(serving);
  health->SetServingStatus(v1::Lookup::service_full_name(), serving);
  health->SetServingStatus(v1::Admin::service_full_name(), true);
}

AdminServer::~AdminServer() {
  // Before gRPC ends: it leaks what it is handed after.
  acceptor_.reset();
  if (server_ != nullptr) ShutDownServer(*server_, connections_, *clock_);
}

}  // namespace engram
