#include "server/grpc/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <memory>
#include <set>
#include <utility>

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

void ReflectionCall::Accept(EventLoop& loop, Reflection* reflection) {
  auto* const call = new ReflectionCall(loop, reflection);  // its own until it is accepted
  call->context_.AsyncNotifyWhenDone(call->over_.tag());
  reflection->service().RequestServerReflectionInfo(&call->context_, &call->stream_, loop.queue(),
                                                    loop.queue(), call->accepted_.tag());
}

ReflectionCall::ReflectionCall(EventLoop& loop, Reflection* reflection)
    : loop_(loop),
      reflection_(reflection),
      stream_(&context_),
      accepted_(this, &ReflectionCall::OnAccepted),
      read_(this, &ReflectionCall::OnRead),
      written_(this, &ReflectionCall::OnWritten),
      finished_(this, &ReflectionCall::OnFinished),
      over_(this, &ReflectionCall::OnOver) {}

void ReflectionCall::OnAccepted(bool ok) {
  std::unique_ptr<ReflectionCall> self(this);
  if (!ok) return;  // the server ends
  Accept(loop_, reflection_);
  loop_.Add(std::move(self));
  busy_ = true;
  stream_.Read(&request_, read_.tag());
}

void ReflectionCall::OnRead(bool ok) {
  if (is_over_) {
    busy_ = false;
    Leave();
  } else if (ok) {
    Reflection::Response response;
    reflection_->Answer(request_, &response);
    stream_.Write(response, written_.tag());
  } else {
    stream_.Finish(grpc::Status::OK, finished_.tag());
  }
}

void ReflectionCall::OnWritten(bool ok) {
  busy_ = ok && !is_over_;
  if (busy_) {
    stream_.Read(&request_, read_.tag());
  } else {
    Leave();
  }
}

void ReflectionCall::OnFinished(bool) {
  busy_ = false;
  Leave();
}

void ReflectionCall::OnOver(bool) {
  is_over_ = true;
  Leave();
}

void ReflectionCall::Leave() {
  if (is_over_ && !busy_) loop_.Remove(this);
}

}  // namespace engram
