#include "server/admin/admin_server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "proto/rpc/grpc_time.h"
#include "server/grpc/grpc_status.h"

namespace engram {
namespace {

// Operators and their dashboards; a publication has one for as long as it lasts.
constexpr int kMaxAdminThreads = 16;
// What operators' calls have to end when engramd does.
constexpr absl::Duration kGoodbye = absl::Milliseconds(100);

// Asks before every method of the port, gRPC's own services' included.
class Gate : public grpc::AuthMetadataProcessor {
 public:
  explicit Gate(AccessControl* access) : access_(access) {}
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* connection,
                       OutputMetadata*, OutputMetadata*) override {
    return ToGrpc(access_->Authenticate(*connection, metadata).status());
  }

 private:
  AccessControl* const access_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const ListenAddress& address,
                                                                const ServerTls* tls,
                                                                const AdminTargets& targets) {
  // gRPC's own message for a port that is taken says nothing.
  ENGRAM_RETURN_IF_ERROR(CheckCanListen(address));
  std::unique_ptr<AdminServer> admin(new AdminServer(targets));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::channelz::experimental::InitChannelzService();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(grpc::ResourceQuota("admin").SetMaxThreads(kMaxAdminThreads));
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!address.is_unix() && tls != nullptr) {
    credentials = tls->MakeCredentials();
    credentials->SetAuthMetadataProcessor(std::make_shared<Gate>(targets.access));
  }
  builder.AddListeningPort(address.Text(), credentials, &port);
  builder.RegisterService(&admin->service_);
  admin->server_ = builder.BuildAndStart();
  if (admin->server_ == nullptr || (port == 0 && !address.is_unix())) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address.Text(), " for operators"));
  }
  admin->address_ = address.is_unix() ? address.Text() : absl::StrCat(address.host, ":", port);
  admin->SetServing(true);
  return admin;
}

void AdminServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus(serving);
  health->SetServingStatus(v1::Lookup::service_full_name(), serving);
  health->SetServingStatus(v1::Admin::service_full_name(), true);
}

AdminServer::~AdminServer() {
  if (server_ != nullptr) server_->Shutdown(rpc::After(absl::ToChronoNanoseconds(kGoodbye)));
}

}  // namespace engram
