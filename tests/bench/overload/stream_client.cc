#include <unordered_map>

#include "proto/wire/lookup_messages.h"
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
    slices_.clear();
    chain_.clear();
    if (message_.Dump(&slices_).ok()) {
      for (const grpc::Slice& slice : slices_) chain_.push_back({slice.begin(), slice.size()});
    }
    if (reply_.Parse(chain_)) Take();
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

  void Take() {
    const auto at = sent_.find(reply_.batch_id);
    if (at == sent_.end()) return Fail("an answer to what was not asked");
    for (const auto& layer : reply_.layers) at->second.row_bytes += layer.rows.size;
    if (reply_.code == 0 && !reply_.last) return;
    const Sent sent = at->second;
    sent_.erase(at);
    if (reply_.code == 0) {
      Answered(sent.times, sent.row_bytes);
    } else {
      Refused(sent.times, reply_.code, reply_.retry_after_ms > 0, reply_.message);
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
  std::vector<grpc::Slice> slices_;
  std::vector<wire::Bytes> chain_;
  wire::LookupResponse reply_;
};

}  // namespace

std::unique_ptr<LoadClient> MakeStreamClient(const std::string& address, const Bodies* bodies,
                                             grpc::CompletionQueue* queue) {
  return std::make_unique<StreamClient>(address, bodies, queue);
}

}  // namespace engram::overload
