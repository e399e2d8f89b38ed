#include "client/transport/grpc/grpc_calls.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "client/transport/grpc/grpc_deadline.h"
#include "memstore/base/clock.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/queue_event.h"

namespace engram {

grpc::ByteBuffer GrpcCalls::EncodeRequest(const GrpcBatch::Request& request) {
  const grpc::Slice slice(request.batch->RequestBytes(request));
  request.batch->WriteRequest(request, const_cast<uint8_t*>(slice.begin()));
  return rpc::OneSlice(slice);
}

}  // namespace engram
