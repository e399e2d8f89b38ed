// The Admin service (proto/engram/v1/admin.proto) over the table sets.
//
// Synchronous: calls are few, and a publication has a thread of gRPC's for as long as it loads. Who
// may call is the port's affair (admin_server.h). What was published and retired is logged with who
// asked for it. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>
#include <spdlog/logger.h>

#include <memory>
#include <string>

#include "memstore/base/clock.h"
#include "memstore/store/scrubber.h"
#include "proto/engram/v1/admin.grpc.pb.h"
#include "server/base/life_cycle.h"
#include "server/security/access.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

// What the services speak for. All outlive the server.
struct AdminTargets {
  TableSetManager* table_sets = nullptr;
  const LifeCycle* life = nullptr;
  Scrubber* scrubber = nullptr;
  AccessControl* access = nullptr;  // asked before every method, where the port speaks TLS
  const Clock* clock = nullptr;
  std::shared_ptr<spdlog::logger> log;
};

class AdminService final : public v1::Admin::Service {
 public:
  explicit AdminService(const AdminTargets& targets) : targets_(targets) {}

  grpc::Status Publish(grpc::ServerContext* context, const v1::PublishRequest* request,
                       grpc::ServerWriter<v1::PublishProgress>* writer) override;
  grpc::Status Retire(grpc::ServerContext* context, const v1::RetireRequest* request,
                      v1::RetireResponse* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListRequest* request,
                    v1::ListResponse* response) override;
  grpc::Status Scrub(grpc::ServerContext* context, const v1::ScrubRequest* request,
                     grpc::ServerWriter<v1::ScrubReport>* writer) override;

 private:
  // For the log: what a caller is called, and where it is.
  std::string Who(const grpc::ServerContext& context) const;

  const AdminTargets targets_;
};

}  // namespace engram
