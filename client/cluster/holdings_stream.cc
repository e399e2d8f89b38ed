#include "client/cluster/holdings_stream.h"

#include <grpcpp/support/async_stream.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cluster/holdings_message.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {
namespace {

constexpr char kMethod[] = "/engram.v1.Lookup/Holdings";

grpc::ByteBuffer RequestOf(const std::vector<std::string>& set_ids) {
  v1::HoldingsRequest request;
  for (const std::string& id : set_ids) request.add_table_set_ids(id);
  grpc::ByteBuffer bytes;
  bool own = false;
  const grpc::Status status =
      grpc::SerializationTraits<v1::HoldingsRequest>::Serialize(request, &bytes, &own);
  ENGRAM_CHECK(status.ok(), "a message of ours cannot be written");
  return bytes;
}

// What gRPC says where the server speaks TLS and this side does not; also of a server that ended.
bool EndsAsByTls(absl::string_view words) {
  return absl::StrContains(words, "Socket closed") || absl::StrContains(words, "SETTINGS frame") ||
         absl::StrContains(words, "Connection reset");
}

}  // namespace

HoldingsStream::HoldingsStream(Options options)
    : options_(std::move(options)),
      stub_(options_.channel),
      started_(this, &HoldingsStream::OnStarted),
      read_(this, &HoldingsStream::OnRead),
      written_(this, &HoldingsStream::OnWritten),
      finished_(this, &HoldingsStream::OnFinished),
      silence_(this, &HoldingsStream::OnSilence),
      retry_(this, &HoldingsStream::OnRetry),
      handshake_(*options_.credentials, options_.address) {
  options_.driver->Begin(1);
  MutexLock lock(mutex_);
  Open();
}

HoldingsStream::~HoldingsStream() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
    if (call_ != nullptr) call_->context.TryCancel();
  }
  options_.driver->CallOff(silence_);
  options_.driver->CallOff(retry_);
  options_.driver->DriveOut([this] { return events_.load() == 0; });
  options_.driver->Finish();
}

void* HoldingsStream::Begin(rpc::QueueEvent& event) {
  ++events_;
  return event.tag();
}

void HoldingsStream::SetTimer(MonotonicTime at, rpc::QueueEvent& event) {
  ++events_;
  options_.driver->SetTimer(at, event);
}

void HoldingsStream::Open() {
  // gRPC would try again by the wall clock.
  options_.channel->GetState(/*try_to_connect=*/true);
  call_ = std::make_unique<Call>();
  options_.credentials->Apply(&call_->context);
  call_->stream = stub_.PrepareCall(&call_->context, kMethod, options_.driver->queue());
  call_->heard = options_.clock->Now();
  call_->stream->StartCall(Begin(started_));
  WatchSilence();
}

void HoldingsStream::WatchSilence() {
  if (std::exchange(watching_silence_, true)) return;
  SetTimer(call_->heard + kSilence, silence_);
}

void HoldingsStream::Use(std::vector<std::string> set_ids) {
  MutexLock lock(mutex_);
  if (set_ids == used_) return;
  used_ = std::move(set_ids);
  ++used_version_;
  if (call_ != nullptr) SayUsed();
}

void HoldingsStream::SayUsed() {
  Call& call = *call_;
  if (!call.started || call.writing || call.breaking || call.said == used_version_) return;
  call.said = used_version_;
  call.writing = true;
  call.stream->Write(RequestOf(used_), Begin(written_));
}

void HoldingsStream::Break() {
  if (std::exchange(call_->breaking, true)) return;
  call_->stream->Finish(&call_->status, Begin(finished_));
}

void HoldingsStream::Refuse(absl::Status why) {
  if (call_->why.ok()) call_->why = std::move(why);
  call_->context.TryCancel();
}

void HoldingsStream::OnStarted(bool ok) {
  MutexLock lock(mutex_);
  --events_;
  if (!ok) return Break();
  call_->started = true;
  call_->stream->Read(&call_->message, Begin(read_));
  SayUsed();
}

absl::StatusOr<StoreState> HoldingsStream::Parse(grpc::ByteBuffer& message) const {
  const auto no_message = [this](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("store ", QuoteForMessage(options_.address), " is left out: ", what));
  };
  if (message.Length() > kMaxHoldingsBytes) {
    return no_message(absl::StrCat("it says what it holds in ", message.Length(),
                                   " bytes: ", kMaxHoldingsBytes, " at most"));
  }
  v1::HoldingsResponse response;
  if (!grpc::SerializationTraits<v1::HoldingsResponse>::Deserialize(&message, &response).ok()) {
    return no_message("what it says is no message of what is held");
  }
  return ReadHoldings(response, options_.address);
}

void HoldingsStream::OnRead(bool ok) {
  absl::StatusOr<StoreState> state = absl::CancelledError("");
  {
    MutexLock lock(mutex_);
    --events_;
    if (!ok) return Break();
    state = Parse(call_->message);
    call_->message.Clear();
    if (!state.ok()) {
      Refuse(state.status());
      return Break();
    }
    call_->heard = options_.clock->Now();
    delay_ = kFirstDelay;
    call_->stream->Read(&call_->message, Begin(read_));
    if (ending_ || !call_->why.ok()) return;
  }
  options_.listener->Heard(*std::move(state));
}

void HoldingsStream::OnWritten(bool ok) {
  {
    MutexLock lock(mutex_);
    --events_;
    call_->writing = false;
    if (ok) SayUsed();  // the read that is always under way finds out why it is not
  }
  TellIfOver();
}

void HoldingsStream::OnFinished(bool) {
  {
    MutexLock lock(mutex_);
    --events_;
    call_->finished = true;
  }
  TellIfOver();
}

absl::Status HoldingsStream::WhyOver(const Call& call) {
  if (!call.why.ok()) return call.why;
  if (const absl::Status no_tls = handshake_.Observe(call.status); !no_tls.ok()) return no_tls;
  if (call.status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("engramd at ", options_.address, " says no more what it holds"));
  }
  absl::Status status = FromGrpc(call.status, options_.address);
  if (absl::IsUnavailable(status) && !options_.credentials->tls() &&
      EndsAsByTls(call.status.error_message())) {
    return absl::UnavailableError(
        absl::StrCat(status.message(), " (if it speaks TLS, give its authority: --tls-ca FILE)"));
  }
  if (!absl::IsUnimplemented(status)) return status;
  return absl::UnimplementedError(absl::StrCat(
      "what listens at ", options_.address, " does not say what it holds",
      call.status.error_message().empty() ? "" : absl::StrCat(" (", PeerWords(call.status), ")"),
      ": is it engramd's port for lookups, not that for operators, and no older than this "
      "client?"));
}

void HoldingsStream::TellIfOver() {
  absl::Status why;
  {
    MutexLock lock(mutex_);
    if (call_ == nullptr || !call_->finished || call_->writing) return;
    why = WhyOver(*call_);
    call_.reset();
    if (ending_) return;
    SetTimer(options_.clock->After(delay_), retry_);
    delay_ = std::min(2 * delay_, kMaxDelay);
  }
  options_.listener->Lost(options_.address, std::move(why));
}

void HoldingsStream::OnSilence(bool) {
  MutexLock lock(mutex_);
  --events_;
  watching_silence_ = false;
  if (call_ == nullptr || ending_) return;
  if (options_.clock->Now() < call_->heard + kSilence) return WatchSilence();
  Refuse(absl::UnavailableError(
      absl::StrCat("engramd at ", options_.address, " has said nothing for ",
                   absl::FormatDuration(kSilence), ", and it should every second")));
}

void HoldingsStream::OnRetry(bool) {
  MutexLock lock(mutex_);
  --events_;
  if (!ending_) Open();
}

}  // namespace engram
