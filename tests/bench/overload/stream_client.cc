#include <unordered_map>

#include "tests/bench/overload/load_client.h"

namespace engram::overload {
namespace {

using RawStream = grpc::ClientAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

constexpr char kMethod[] = "/engram.v1.Lookup/LookupStream";

class StreamClient final : public LoadClient {
 public:
  StreamClient(const std::string& address, const Bodies* bodies, grpc::CompletionQueue* queue)
      : LoadClient(bodies), stub_(OwnChannel(address)) {
    stream_ = stub_.PrepareCall(&context_, kMethod, queue);
    stream_->StartCall(&started_);
    ++events_;
  }

  bool ready() const override { return ready_; }
  bool over() const override { return over_; }
  size_t under_way() const override { return sent_.size(); }
  void End() override {
    if (!over_) context_.TryCancel();
  }

 private:
  struct StreamEvent final : Event {
    StreamEvent(void (StreamClient::*its_method)(bool), StreamClient* its_client)
        : method(its_method), client(its_client) {}
    void Happened(bool ok) override { (client->*method)(ok); }
    void (StreamClient::*const method)(bool);
    StreamClient* const client;
  };
  struct Sent {
    Times times;
    uint64_t row_bytes = 0;
  };

  void OnStarted(bool ok) {
    --events_;
    if (!ok) return OnOver();
    ready_ = true;
    Read();
    Write();
  }
  void Read() {
    ++events_;
    stream_->Read(&message_, &read_);
  }
  void OnRead(bool ok) {
    --events_;
    if (!ok) return OnOver();
    if (const wire::LookupResponse* const reply = Parse(message_)) Take(*reply);
    Read();
  }
  void OnWritten(bool ok) {
    --events_;
    writing_ = false;
    if (ok) Write();
  }
  void OnOver() { over_ = true; }

  void Write() override {
    Times times;
    if (!ready_ || over_ || writing_ || !TakeDue(times)) return;
    const uint64_t id = next_id_++;
    sent_.emplace(id, Sent{times, 0});
    writing_ = true;
    ++events_;
    stream_->Write(Request(id, times), &written_);
  }

  void Take(const wire::LookupResponse& reply) {
    const auto at = sent_.find(reply.batch_id);
    if (at == sent_.end()) return Fail("an answer to what was not asked");
    for (const auto& layer : reply.layers) at->second.row_bytes += layer.rows.size;
    if (reply.code == 0 && !reply.last) return;
    const Sent sent = at->second;
    sent_.erase(at);
    if (reply.code == 0) {
      Answered(sent.times, sent.row_bytes);
    } else {
      Refused(sent.times, reply.code, reply.retry_after_ms > 0, reply.message);
    }
  }

  RawStub stub_;
  grpc::ClientContext context_;
  std::unique_ptr<RawStream> stream_;
  StreamEvent started_{&StreamClient::OnStarted, this}, read_{&StreamClient::OnRead, this},
      written_{&StreamClient::OnWritten, this};
  bool ready_ = false, writing_ = false, over_ = false;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Sent> sent_;
  grpc::ByteBuffer message_;
};

}  // namespace

std::unique_ptr<LoadClient> MakeStreamClient(const std::string& address, const Bodies* bodies,
                                             grpc::CompletionQueue* queue) {
  return std::make_unique<StreamClient>(address, bodies, queue);
}

}  // namespace engram::overload
