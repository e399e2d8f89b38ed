// The Admin service (proto/engram/v1/admin.proto) over the table sets.
//
// Synchronous: calls are few, and a publication has a thread of gRPC's for as long as it loads. Who
// may call is the port's affair (admin_server.h). Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include "memstore/base/clock.h"
#include "memstore/store/scrubber.h"
#include "proto/engram/v1/admin.grpc.pb.h"
#include "server/base/life_cycle.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

class AdminService final : public v1::Admin::Service {
 public:
  // All outlive it.
  AdminService(TableSetManager* sets, const LifeCycle* life, Scrubber* scrubber, const Clock* clock)
      : sets_(sets), life_(life), scrubber_(scrubber), clock_(clock) {}

  grpc::Status Publish(grpc::ServerContext* context, const v1::PublishRequest* request,
                       grpc::ServerWriter<v1::PublishProgress>* writer) override;
  grpc::Status Retire(grpc::ServerContext* context, const v1::RetireRequest* request,
                      v1::RetireResponse* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListRequest* request,
                    v1::ListResponse* response) override;
  grpc::Status Scrub(grpc::ServerContext* context, const v1::ScrubRequest* request,
                     grpc::ServerWriter<v1::ScrubReport>* writer) override;

 private:
  TableSetManager* const sets_;
  const LifeCycle* const life_;
  Scrubber* const scrubber_;
  const Clock* const clock_;
};

}  // namespace engram
