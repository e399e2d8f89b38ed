// The Lookup service (proto/engram/v1/lookup.proto) over the registry of table sets.
//
// All of it runs on the loops (event_loop.h). Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "memstore/store/table_set_registry.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/lookup_requests.h"
#include "server/rdma/endpoint.h"
#include "server/security/access.h"

namespace engram {

class LookupService final : public LookupRequests {
 public:
  // `registry`, `access` and `rdma` outlive it; `rdma` may be null, `shm_socket` empty: then there
  // is none.
  LookupService(const TableSetRegistry* registry, AccessControl* access, uint64_t max_batch_rows,
                RdmaEndpoint* rdma, std::string shm_socket)
      : registry_(registry),
        access_(access),
        max_batch_rows_(max_batch_rows),
        rdma_(rdma),
        shm_socket_(std::move(shm_socket)) {}

  // Waits for the first calls of every method.
  void Accept(EventLoop& loop);

 private:
  // Of the sets that the caller may have.
  grpc::Status Describe(const Caller& caller, v1::DescribeResponse* response) const;
  grpc::Status Attach(const Caller& caller, const v1::AttachRequest& request,
                      v1::AttachResponse* response) const;

  const TableSetRegistry* const registry_;
  AccessControl* const access_;
  const uint64_t max_batch_rows_;
  RdmaEndpoint* const rdma_;
  const std::string shm_socket_;
};

}  // namespace engram
