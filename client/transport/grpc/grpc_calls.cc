#include "client/transport/grpc/grpc_calls.h"

namespace engram {

grpc::ByteBuffer GrpcCalls::EncodeRequest(const GrpcBatch::Request& request) {
  const grpc::Slice slice(request.batch->RequestBytes(request));
  request.batch->WriteRequest(request, const_cast<uint8_t*>(slice.begin()));
  return rpc::OneSlice(slice);
}

}  // namespace engram
