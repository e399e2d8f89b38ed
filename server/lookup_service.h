// The Lookup service (proto/engram/v1/lookup.proto) over the store: protobuf in, protobuf out.
//
// Thread-safe: gRPC calls it from many threads. What is asked is checked and gathered by lookup.h;
// who may gather is decided by admission.h. Keeps nothing of a request after its reply.
#pragma once

#include <grpcpp/grpcpp.h>

#include "memstore/store/parallel_gather.h"
#include "memstore/store/store.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/admission.h"
#include "server/lookup.h"

namespace engram {

class LookupService final : public v1::Lookup::Service {
 public:
  // `store` and `team` outlive it.
  LookupService(const Store* store, GatherTeam* team, const LookupLimits& limits,
                const Admission::Limits& admission)
      : store_(store), team_(team), limits_(limits), admission_(admission) {}

  grpc::Status Describe(grpc::ServerContext* context, const v1::DescribeRequest* request,
                        v1::DescribeResponse* response) override;
  grpc::Status Attach(grpc::ServerContext* context, const v1::AttachRequest* request,
                      v1::AttachResponse* response) override;
  grpc::Status Lookup(grpc::ServerContext* context, const v1::LookupRequest* request,
                      v1::LookupResponse* response) override;

 private:
  absl::StatusOr<PreparedLookup> Prepare(const v1::LookupRequest& request) const;
  absl::Status Answer(const v1::LookupRequest& request,
                      std::chrono::system_clock::time_point deadline, v1::LookupResponse* response);

  const Store* const store_;
  GatherTeam* const team_;
  const LookupLimits limits_;
  Admission admission_;
};

}  // namespace engram
