#include "server/grpc/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <memory>
#include <set>
#include <utility>

#include "server/grpc/grpc_status.h"
#include "server/grpc/rpc_call.h"
#include "server/grpc/small_message.h"

namespace engram {
namespace {

using google::protobuf::DescriptorPool;
using ProtoFile = google::protobuf::FileDescriptor;

// The file and all that it imports, each once.
void AddFile(const ProtoFile* file, std::set<const ProtoFile*>* seen,
             Reflection::Response* response) {
  if (!seen->insert(file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  response->mutable_file_descriptor_response()->add_file_descriptor_proto(
      proto.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) AddFile(file->dependency(i), seen, response);
}

// One request is read and answered at a time.
class ReflectionCall final : public RpcCall {
 public:
  static void Accept(EventLoop& loop, Reflection* reflection) {
    auto* const call = new ReflectionCall(loop, reflection);  // its own until it is accepted
    call->WatchEnd();
    reflection->service().Request(/*method=*/0, &call->context_, &call->stream_, loop.queue(),
                                  call->accepted_tag());
  }

  bool HoldsDrain() const override { return false; }

 private:
  ReflectionCall(EventLoop& loop, Reflection* reflection)
      : RpcCall(loop),
        reflection_(reflection),
        stream_(&context_),
        read_(this, &ReflectionCall::OnRead),
        write_(this, &ReflectionCall::OnWritten) {}
  void AcceptNext() override { Accept(loop_, reflection_); }
  void OnAccepted() override {
    Places& places = loop_.context().side_calls;
    const Places::Answer got = places.Take(
        connection(), loop_.clock().Now(), [this] { context_.TryCancel(); }, &place_);
    if (got == Places::Answer::kTaken) return stream_.Read(&message_, read_.Begin());
    stream_.Finish(ToGrpc(NoPlace(got, places, "calls beside lookups")), BeginFinish());
  }

  void OnRead(bool ok) {
    if (ended()) return;
    if (!ok) {
      stream_.Finish(grpc::Status::OK, BeginFinish());
      return;
    }
    Reflection::Request request;
    if (absl::Status parsed = ParseSmall(message_, &request); !parsed.ok()) {
      stream_.Finish(ToGrpc(parsed), BeginFinish());
      return;
    }
    Reflection::Response response;
    reflection_->Answer(request, &response);
    stream_.Write(ToBytes(response), write_.Begin());
  }
  void OnWritten(bool ok) {
    if (!ok || ended()) return;
    place_.Served(loop_.clock().Now());
    stream_.Read(&message_, read_.Begin());
  }

  Reflection* const reflection_;
  RawService::Stream stream_;
  grpc::ByteBuffer message_;
  Operation<ReflectionCall> read_, write_;
  Places::Place place_;  // goes first: it calls context_
};

}  // namespace

void Reflection::Answer(const Request& request, Response* response) const {
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  const DescriptorPool* const pool = DescriptorPool::generated_pool();
  const ProtoFile* file = nullptr;
  switch (request.message_request_case()) {
    case Request::kListServices:
      for (const std::string& service : services_) {
        response->mutable_list_services_response()->add_service()->set_name(service);
      }
      return;
    case Request::kFileByFilename:
      file = pool->FindFileByName(request.file_by_filename());
      break;
    case Request::kFileContainingSymbol:
      file = pool->FindFileContainingSymbol(request.file_containing_symbol());
      break;
    default:  // there are no extensions
      break;
  }
  if (file != nullptr) {
    std::set<const ProtoFile*> seen;
    AddFile(file, &seen, response);
    return;
  }
  response->mutable_error_response()->set_error_code(grpc::StatusCode::NOT_FOUND);
  response->mutable_error_response()->set_error_message("there is no such thing here");
}

void Reflection::Accept(EventLoop& loop) { ReflectionCall::Accept(loop, this); }

}  // namespace engram
