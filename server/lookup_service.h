// The Lookup service (proto/engram/v1/lookup.proto) over the store.
//
// All of it runs on the loops (lookup_loop.h). Lookup and LookupStream take raw buffers, under
// their registered names, so that reflection and every language's stubs find them as they are
// described. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include "memstore/store/store.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/lookup_loop.h"

namespace engram {

class LookupService final
    : public v1::Lookup::WithRawMethod_LookupStream<
          v1::Lookup::WithRawMethod_Lookup<v1::Lookup::WithAsyncMethod_Describe<
              v1::Lookup::WithAsyncMethod_Attach<v1::Lookup::Service>>>> {
 public:
  // `store` outlives it.
  LookupService(const Store* store, uint64_t max_batch_rows)
      : store_(store), max_batch_rows_(max_batch_rows) {}

  // Waits for the first calls of every method.
  void Accept(LookupLoop& loop);

 private:
  grpc::Status Describe(v1::DescribeResponse* response) const;
  grpc::Status Attach(const v1::AttachRequest& request, v1::AttachResponse* response) const;

  const Store* const store_;
  const uint64_t max_batch_rows_;
};

}  // namespace engram
