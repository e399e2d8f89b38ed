// A LookupStream held by hand over the generated stub, as a client of any language could: batches
// of row ids, what came back of each, and whether it is exact.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram::integration {

// A connection of its own.
std::unique_ptr<v1::Lookup::Stub> ConnectStub(const std::string& address);
// The first table set that is served; a test failure when there is none.
v1::ServedTableSet DescribeFirst(v1::Lookup::Stub& stub);

// A batch of about `rows` row ids over all layers of the set; another `seed`, other rows.
v1::LookupRequest RowBatch(const v1::ServedTableSet& set, uint64_t batch_id, uint64_t rows,
                           uint32_t seed = 1);

struct Answer {
  bool ended = false;
  uint32_t code = 0;
  std::string message;
  uint32_t retry_after_ms = 0;
  std::map<uint32_t, std::string> rows;  // by layer
  uint64_t rows_bytes = 0;
};
// A test failure unless it holds the rows asked for, each as the synthetic rule says.
void ExpectExact(const v1::ServedTableSet& set, const v1::LookupRequest& request,
                 const Answer& answer);

// One thread may write while another reads.
class HandStream {
 public:
  explicit HandStream(const std::string& address);
  ~HandStream();

  bool Write(const v1::LookupRequest& request) { return stream_->Write(request); }
  void Cancel(uint64_t batch_id);
  // Reads one message; false at the end of the stream.
  bool Read();
  // Reads until another batch ends and says which; nothing at the end of the stream.
  std::optional<uint64_t> ReadToAnEnd();
  // What is there of a batch; forgets it.
  Answer Take(uint64_t batch_id);
  // Reads what is left, then the status that the stream ended with.
  grpc::Status Finish();
  // No more batches will be written.
  void WritesDone() { stream_->WritesDone(); }
  void Abort() { context_.TryCancel(); }

 private:
  std::unique_ptr<v1::Lookup::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::LookupRequest, v1::LookupResponse>> stream_;
  std::map<uint64_t, Answer> answers_;
  std::optional<uint64_t> ended_;  // by the last message
  bool finished_ = false;
};

}  // namespace engram::integration
