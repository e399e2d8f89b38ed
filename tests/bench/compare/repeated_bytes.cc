// A straightforward gRPC service with `repeated bytes`: the synchronous API over a table in memory.
//
// repeated_bytes --socket unix:PATH --layers L:ROWS,L:ROWS [--serve]
//   the server with --serve, else the contenders: unary calls, and a stream for each batch in
//   flight
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/compare/contender.h"
#include "tests/bench/compare/repeated_bytes.grpc.pb.h"

namespace engram::bench {
namespace {

class RowsService final : public Rows::Service {
 public:
  explicit RowsService(const Layers& layers) : count_(TotalRows(layers)) {
    rows_.resize(count_ * kRowBytes);
    for (uint64_t i = 0; i < count_; ++i) FillRow(layers, i, {&rows_[i * kRowBytes], kRowBytes});
  }
  grpc::Status Get(grpc::ServerContext*, const RowsRequest* request, RowsReply* reply) override {
    reply->mutable_rows()->Reserve(request->keys_size());
    for (const uint64_t key : request->keys()) {
      if (key >= count_) return {grpc::StatusCode::INVALID_ARGUMENT, "no such row"};
      reply->add_rows(&rows_[key * kRowBytes], kRowBytes);
    }
    return grpc::Status::OK;
  }
  grpc::Status Stream(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<RowsReply, RowsRequest>* stream) override {
    RowsRequest request;
    RowsReply reply;
    while (stream->Read(&request)) {
      reply.Clear();
      const grpc::Status status = Get(context, &request, &reply);
      if (!status.ok()) return status;
      if (!stream->Write(reply)) break;
    }
    return grpc::Status::OK;
  }

 private:
  const uint64_t count_;
  std::vector<std::byte> rows_;
};

absl::Status Serve(const std::string& address, const Layers& layers) {
  RowsService service(layers);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::UnavailableError("cannot listen on " + address);
  server->Wait();
  return absl::OkStatus();
}

std::unique_ptr<Rows::Stub> OpenStub(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return Rows::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

void Ask(const Layers& layers, const Batch& batch, RowsRequest* request) {
  request->clear_keys();
  request->mutable_keys()->Reserve(static_cast<int>(batch.tokens * kTokenRows));
  for (size_t l = 0; l < kLayers; ++l) {
    const uint64_t offset = l == 0 ? 0 : layers[0].rows;
    for (uint64_t i = 0; i < batch.layer_rows(); ++i) request->add_keys(offset + batch.ids[l][i]);
  }
}

absl::Status Land(const RowsReply& reply, const Batch& batch) {
  if (static_cast<uint64_t>(reply.rows_size()) != batch.tokens * kTokenRows) {
    return absl::DataLossError("the service sent another number of rows");
  }
  std::byte* to = batch.landing;
  for (const std::string& row : reply.rows()) {
    if (row.size() != kRowBytes) return absl::DataLossError("the service sent a row too long");
    std::memcpy(to, row.data(), kRowBytes);
    to += kRowBytes;
  }
  return absl::OkStatus();
}

class UnaryLane final : public Lane {
 public:
  UnaryLane(const std::string& address, const Layers& layers)
      : stub_(OpenStub(address)), layers_(layers) {}
  ~UnaryLane() override { queue_.Shutdown(); }

  absl::Status Begin(size_t slot, const Batch& batch) override {
    Call& call = calls_[slot];
    call.context = std::make_unique<grpc::ClientContext>();
    call.done = false;
    Ask(layers_, batch, &call.request);
    call.reader = stub_->AsyncGet(call.context.get(), call.request, &queue_);
    call.reader->Finish(&call.reply, &call.status, &call);
    return absl::OkStatus();
  }
  absl::Status End(size_t slot, const Batch& batch) override {
    Call& call = calls_[slot];
    while (!call.done) {
      void* tag = nullptr;
      bool ok = false;
      if (!queue_.Next(&tag, &ok)) return absl::InternalError("the queue ended");
      static_cast<Call*>(tag)->done = true;
    }
    if (!call.status.ok()) return absl::UnavailableError(call.status.error_message());
    return Land(call.reply, batch);
  }

 private:
  struct Call {
    std::unique_ptr<grpc::ClientContext> context;
    RowsRequest request;
    RowsReply reply;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<RowsReply>> reader;
    bool done = true;
  };
  const std::unique_ptr<Rows::Stub> stub_;
  const Layers layers_;
  grpc::CompletionQueue queue_;
  std::array<Call, kMaxInFlight> calls_;
};

class StreamLane final : public Lane {
 public:
  StreamLane(const std::string& address, const Layers& layers)
      : stub_(OpenStub(address)), layers_(layers) {}
  ~StreamLane() override {
    for (Call& call : calls_) {
      if (call.stream == nullptr) continue;
      call.stream->WritesDone();
      call.stream->Finish();
    }
  }

  absl::Status Begin(size_t slot, const Batch& batch) override {
    Call& call = calls_[slot];
    if (call.stream == nullptr) call.stream = stub_->Stream(&call.context);
    Ask(layers_, batch, &call.request);
    if (call.stream->Write(call.request)) return absl::OkStatus();
    return absl::UnavailableError("the service's stream broke");
  }
  absl::Status End(size_t slot, const Batch& batch) override {
    Call& call = calls_[slot];
    if (call.stream->Read(&call.reply)) return Land(call.reply, batch);
    return absl::UnavailableError("the service's stream broke");
  }

 private:
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<RowsRequest, RowsReply>> stream;
    RowsRequest request;
    RowsReply reply;
  };
  const std::unique_ptr<Rows::Stub> stub_;
  const Layers layers_;
  std::array<Call, kMaxInFlight> calls_;
};

template <typename OwnLane>
class RowsContender final : public Contender {
 public:
  RowsContender(std::string address, const Layers& layers)
      : address_(std::move(address)), layers_(layers) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    return std::make_unique<OwnLane>(address_, layers_);
  }

 private:
  const std::string address_;
  const Layers layers_;
};

int Main(int argc, char** argv) {
  CLI::App app("a service with repeated bytes, for compare.py");
  bool serve = false;
  std::string socket;
  std::string layers_text;
  app.add_flag("--serve", serve, "serve instead of measuring");
  app.add_option("--socket", socket, "unix:PATH")->required();
  app.add_option("--layers", layers_text, "L:ROWS,L:ROWS")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::StatusOr<Layers> layers = ParseLayers(layers_text);
  if (!layers.ok()) return Failed("repeated_bytes", layers.status());
  if (serve) return Failed("repeated_bytes", Serve(socket, *layers));
  Contenders contenders;
  contenders["repeated-unary"] = std::make_unique<RowsContender<UnaryLane>>(socket, *layers);
  contenders["repeated-stream"] = std::make_unique<RowsContender<StreamLane>>(socket, *layers);
  return ServeRounds("repeated_bytes", std::move(contenders), *layers);
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
