#include "server/grpc/attach_rdma_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/rdma/limits.h"
#include "memstore/rdma/request.h"
#include "proto/rpc/queue_pair.h"
#include "proto/wire/features.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/small_message.h"

namespace engram {
namespace {

// A client says what it wants at once; one that does not is not waited for.
constexpr absl::Duration kSetUpTime = absl::Seconds(5);

}  // namespace

void AttachRdmaCall::Accept(EventLoop& loop, LookupRequests* requests, RdmaEndpoint* endpoint) {
  auto* const call = new AttachRdmaCall(loop, requests, endpoint);  // its own until it is accepted
  call->WatchEnd();
  requests->Request(LookupRequests::kAttachRdma, &call->context_, &call->stream_, loop.queue(),
                    call->accepted_tag());
}

AttachRdmaCall::AttachRdmaCall(EventLoop& loop, LookupRequests* requests, RdmaEndpoint* endpoint)
    : RpcCall(loop),
      requests_(requests),
      endpoint_(endpoint),
      stream_(&context_),
      read_(this, &AttachRdmaCall::OnRead),
      write_(this, &AttachRdmaCall::OnWritten) {}

void AttachRdmaCall::OnAccepted() {
  since_ = loop_.clock().Now();
  if (endpoint_ == nullptr) {
    return End(absl::UnimplementedError(
        "this engramd serves nothing over RDMA: start it with --rdma-device"));
  }
  if (loop_.draining()) return OnDrain();
  absl::StatusOr<Caller> caller = loop_.context().access->Authenticate(context_);
  if (!caller.ok()) return End(caller.status());
  caller_ = *std::move(caller);
  Places& places = loop_.context().side_calls;
  const Places::Answer got = places.Take(
      connection(), since_, [this] { context_.TryCancel(); }, &place_);
  if (got != Places::Answer::kTaken) return End(NoPlace(got, places, "calls beside lookups"));
  stream_.Read(&message_, read_.Begin());
}

void AttachRdmaCall::OnRead(bool ok) {
  if (ended()) return;
  if (!ok) return End(absl::OkStatus());  // the client detaches
  response_.Clear();
  if (absl::Status status = ParseSmall(message_, &request_); !status.ok()) return End(status);
  if (absl::Status status = Answer(); !status.ok()) return End(status);
  write_began_ = loop_.clock().Now();
  stream_.Write(ToBytes(response_), write_.Begin());
}

void AttachRdmaCall::OnWritten(bool ok) {
  // Where it is not ok the connection is gone, and OnOver follows.
  if (!ok || ended()) return;
  if (!end_.ok()) return End(end_);
  stream_.Read(&message_, read_.Begin());
}

absl::Status AttachRdmaCall::Answer() {
  switch (request_.what_case()) {
    case v1::RdmaAttachRequest::kOpen:
      if (!opened_) return Offer(request_.open());
      break;
    case v1::RdmaAttachRequest::kConnect:
      if (opened_ && !connected()) return Connect(request_.connect());
      break;
    case v1::RdmaAttachRequest::kDeclare: {
      if (client_ == nullptr) break;
      const v1::RdmaWindow& window = request_.declare();
      response_.set_declared(window.number());
      return client_->Declare({.number = window.number(),
                               .address = window.address(),
                               .bytes = window.bytes(),
                               .key = window.key()});
    }
    case v1::RdmaAttachRequest::kForget:
      if (client_ == nullptr) break;
      response_.set_forgotten(request_.forget());
      return client_->Forget(request_.forget());
    default:
      break;
  }
  return absl::InvalidArgumentError(
      "AttachRdma goes: open, connect, then windows that are declared and forgotten");
}

absl::Status AttachRdmaCall::Offer(const v1::RdmaOpen& open) {
  if (open.version() != kRdmaVersion) {
    return absl::InvalidArgumentError(absl::StrCat("this engramd speaks version ", kRdmaVersion,
                                                   " over RDMA, the client ", open.version(),
                                                   ": update the older one"));
  }
  if (open.mode() == v1::RDMA_MODE_READ && !endpoint_->reads()) {
    return absl::UnimplementedError(
        "this engramd lets nobody read its tables over RDMA: start it with --rdma-read");
  }
  const auto may_have = [this](absl::string_view name) {
    return loop_.context().access->MayHave(caller_, name);
  };
  ENGRAM_ASSIGN_OR_RETURN(const std::shared_ptr<const TableSet> set,
                          loop_.context().registry->Acquire(open.table_set_id(), may_have));
  ENGRAM_RETURN_IF_ERROR(RdmaEndpoint::CheckSet(*set));
  opened_ = true;
  mode_ = open.mode();
  set_id_ = open.table_set_id();
  v1::RdmaOffer* offer = response_.mutable_offer();
  for (size_t i = 0; i < endpoint_->ports(); ++i) {
    const RdmaDevice& device = endpoint_->port(i);
    v1::RdmaPort* port = offer->add_ports();
    port->set_gid(device.gid().data(), device.gid().size());
    port->set_name(device.Name());
  }
  offer->set_credits(kRdmaCredits);
  offer->set_max_request_bytes(kRdmaRequestBytes);
  offer->set_max_batch_rows(endpoint_->max_batch_rows());
  // Where the client reads rows by itself there is nothing to be asked for.
  if (mode_ == v1::RDMA_MODE_WRITE) {
    offer->add_features(std::string(wire::kTokenSlices));
    offer->add_features(std::string(wire::kImageChecks));
  }
  offer->set_engram_version(kEngramVersion);
  return absl::OkStatus();
}

absl::Status AttachRdmaCall::Connect(const v1::RdmaConnect& connect) {
  ENGRAM_ASSIGN_OR_RETURN(const RdmaPeer peer, ReadQueuePair<RdmaPeer>(connect.queue_pair()));
  port_ = connect.port();
  v1::RdmaConnected* connected = response_.mutable_connected();
  if (mode_ == v1::RDMA_MODE_READ) return ConnectReader(peer, connected);
  ENGRAM_ASSIGN_OR_RETURN(client_, endpoint_->Attach(port_, set_id_, peer));
  place_.Leave();  // clients of the endpoint are counted there
  WriteQueuePair(client_->Own(), connected->mutable_queue_pair());
  return absl::OkStatus();
}

absl::Status AttachRdmaCall::ConnectReader(const RdmaPeer& peer, v1::RdmaConnected* connected) {
  ENGRAM_ASSIGN_OR_RETURN(reader_, endpoint_->AttachReader(port_, set_id_, peer));
  place_.Leave();
  WriteQueuePair(reader_->Own(), connected->mutable_queue_pair());
  const RdmaTables& tables = reader_->tables();
  const std::vector<LoadedLayer>& layers = tables.served().set->layers();
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const RdmaTables::Range& range : tables.ranges(i)) {
      v1::RdmaTable* table = connected->add_tables();
      table->set_layer(layers[i].layer);
      table->set_first_row(range.rows.first);
      table->set_rows(range.rows.rows);
      for (const RdmaRegion& piece : range.pieces) WriteWindow(piece, table->add_pieces());
    }
  }
  WriteWindow(tables.control(), connected->mutable_state());
  return absl::OkStatus();
}

void AttachRdmaCall::OnTick(MonotonicTime now, bool) {
  if (ended()) return;
  if (end_.ok()) end_ = Check(now);
  if (end_.ok()) return;
  if (!write_.under_way()) return End(end_);
  // What was written is gone in a moment, if its client takes it.
  if (now - write_began_ > absl::FromChrono(kMaxWriteStall)) context_.TryCancel();
}

absl::Status AttachRdmaCall::Check(MonotonicTime now) {
  // One that is not connected yet is refused: End tells of that.
  ENGRAM_RETURN_IF_ERROR(connected() ? RecheckToken(caller_, "rdma lease")
                                     : loop_.context().access->Recheck(caller_));
  if (draining_ && (client_ == nullptr || client_->Idle())) {
    return absl::UnavailableError("engramd is stopping: attach to another replica");
  }
  if (!connected() && now - since_ > kSetUpTime) {
    return absl::DeadlineExceededError("the RDMA connection was not set up in time");
  }
  return client_ == nullptr ? absl::OkStatus() : client_->Health();
}

void AttachRdmaCall::OnDrain() {
  // OnTick ends the call when what is under way has gone out; until then requests are refused.
  draining_ = true;
  if (client_ != nullptr) client_->Drain();
}

void AttachRdmaCall::End(const absl::Status& status) {
  if (!status.ok() && !connected()) Refused(status);
  LetGo();
  stream_.Finish(ToGrpc(status), BeginFinish());
}

void AttachRdmaCall::Refused(const absl::Status& status) {
  const v1::RdmaOpen& open = request_.open();  // an empty one where it said something else
  const bool other_version = !opened_ && request_.has_open() && open.version() != kRdmaVersion;
  loop_.context().attach_refusals->Add(
      AttachPath::kRdma,
      other_version ? AttachRefusal::kVersion : ReasonOf(status, open.table_set_id()),
      context_.peer(), status);
}

void AttachRdmaCall::LetGo() {
  if (client_ != nullptr && endpoint_ != nullptr) endpoint_->Detach(port_, client_);
  client_.reset();
  reader_.reset();
}

}  // namespace engram
