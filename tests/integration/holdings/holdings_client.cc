// A client that holds a table set by a Holdings stream, for a test that kills it:
//
//   holdings_client ADDRESS SET-ID
//
// says "holds" once it has heard what the server holds, and holds it until its input ends.
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <string>

#include "proto/engram/v1/lookup.grpc.pb.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const auto stub =
      engram::v1::Lookup::NewStub(grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->Holdings(&context);
  engram::v1::HoldingsRequest request;
  request.add_table_set_ids(argv[2]);
  engram::v1::HoldingsResponse response;
  if (!stream->Write(request) || !stream->Read(&response)) return 1;
  std::puts("holds");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
