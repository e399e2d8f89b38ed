#include "server/net/no_compression.h"

#include <grpc/compression.h>
#include <grpc/impl/codegen/grpc_types.h>

namespace engram {

void TakeNoCompression(grpc::ServerBuilder& builder) {
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  // Else it is decompressed before it is looked at whether it may be.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
}

}  // namespace engram
