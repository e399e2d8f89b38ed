// The Lookup service (proto/engram/v1/lookup.proto) over the store.
//
// Describe and Attach are plain synchronous methods, called from gRPC's own threads. Lookup and
// LookupStream are handed to the loops as raw buffers (lookup_loop.h), under their registered
// names, so that reflection and every language's stubs find them as they are described.
// Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include "memstore/store/store.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {

class LookupService final : public v1::Lookup::WithRawMethod_LookupStream<
                                v1::Lookup::WithRawMethod_Lookup<v1::Lookup::Service>> {
 public:
  // `store` outlives it.
  LookupService(const Store* store, uint64_t max_batch_rows)
      : store_(store), max_batch_rows_(max_batch_rows) {}

  grpc::Status Describe(grpc::ServerContext* context, const v1::DescribeRequest* request,
                        v1::DescribeResponse* response) override;
  grpc::Status Attach(grpc::ServerContext* context, const v1::AttachRequest* request,
                      v1::AttachResponse* response) override;

 private:
  const Store* const store_;
  const uint64_t max_batch_rows_;
};

}  // namespace engram
