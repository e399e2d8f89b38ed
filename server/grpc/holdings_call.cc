#include "server/grpc/holdings_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/small_message.h"

namespace engram {
namespace {

// Between two messages, changes or not: no more than a client has use for, ...
constexpr absl::Duration kLeastInterval = absl::Milliseconds(250);
// ... and the load at least. A tick comes a little late, each time.
constexpr absl::Duration kMostInterval = absl::Milliseconds(750);
constexpr size_t kIdDigits = 64;

absl::Status Stopping() {
  return absl::UnavailableError("engramd is stopping: ask another replica");
}

}  // namespace

void HoldingsCall::Accept(EventLoop& loop, LookupRequests* requests) {
  auto* const call = new HoldingsCall(loop, requests);  // its own until it is accepted
  call->WatchEnd();
  requests->Request(LookupRequests::kHoldings, &call->context_, &call->stream_, loop.queue(),
                    call->accepted_tag());
}

HoldingsCall::HoldingsCall(EventLoop& loop, LookupRequests* requests)
    : TellingCall(loop), requests_(requests) {}

void HoldingsCall::OnAccepted() {
  if (loop_.draining()) return End(Stopping());
  const absl::Status status = Admit(loop_.context().holdings_calls, "Holdings streams");
  if (!status.ok()) return End(status);
  admitted_ = true;
  Read();
  Send();
}

void HoldingsCall::OnRead(bool ok) {
  if (end_ || ended()) return;
  if (!ok) return End(absl::OkStatus());  // the client lets go
  // The next one is read in a tick.
  if (const absl::Status status = ReadRequest(); !status.ok()) return End(status);
  TakeLeases();
}

absl::Status HoldingsCall::ReadRequest() {
  v1::HoldingsRequest request;
  ENGRAM_RETURN_IF_ERROR(ParseSmall(message_, &request));
  if (request.table_set_ids_size() > static_cast<int>(kMaxUsedSets)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a client that uses ", request.table_set_ids_size(),
                     " table sets: ", kMaxUsedSets, " at most on a Holdings stream"));
  }
  for (const std::string& id : request.table_set_ids()) {
    if (id.size() == kIdDigits && LooksLikeAnId(id)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("table set \"", QuoteForMessage(id),
                     "\" is no whole id: 64 lower-case hexadecimal digits, as Attach gives it"));
  }
  used_.assign(request.table_set_ids().begin(), request.table_set_ids().end());
  std::sort(used_.begin(), used_.end());
  used_.erase(std::unique(used_.begin(), used_.end()), used_.end());
  return absl::OkStatus();
}

void HoldingsCall::TakeLeases() {
  const TableSetRegistry& registry = *loop_.context().registry;
  leased_version_ = registry.version();
  std::vector<Lease> leases;
  for (const RegisteredSet& registered : registry.States()) {
    const TableSet& set = *registered.served.set;
    if (!std::binary_search(used_.begin(), used_.end(), set.id())) continue;
    if (!loop_.context().access->MayHave(caller_, set.name()).ok()) continue;
    leases.emplace_back(registered.served.leases, LeaseKind::kHoldings);
  }
  leases_ = std::move(leases);  // those before end after these began
}

v1::HoldingsResponse HoldingsCall::Make() const {
  const ServingContext& context = loop_.context();
  return context.store_status->Make(
      [&](absl::string_view name) { return context.access->MayHave(caller_, name); });
}

void HoldingsCall::Send() {
  sent_version_ = loop_.context().store_status->version();  // before what it is the version of
  Write(ToBytes(Make()));
}

void HoldingsCall::OnTick(MonotonicTime now, bool) {
  if (!admitted_ || ended()) return;
  const absl::Duration since_sent = now - write_began();
  if (writing() && since_sent > absl::FromChrono(kMaxHoldingsStall)) {
    // What its client does not take ends no other way.
    leases_.clear();
    Cancel();
  }
  if (end_ || cancelled()) return;
  if (const absl::Status status = RecheckToken(caller_, "holdings"); !status.ok()) {
    return End(status);
  }
  if (!reading()) Read();
  if (leased_version_ != loop_.context().registry->version()) TakeLeases();
  if (writing()) return;
  const bool changed = sent_version_ != loop_.context().store_status->version();
  if (since_sent >= (changed ? kLeastInterval : kMostInterval)) Send();
}

void HoldingsCall::OnDrain() {
  if (admitted_) End(Stopping());
}

void HoldingsCall::End(absl::Status status) {
  if (end_ || ended()) return;
  leases_.clear();
  end_ = std::move(status);
  FinishUnlessWriting();
}

void HoldingsCall::FinishUnlessWriting() {
  if (!end_ || ended() || writing()) return;
  if (!admitted_ || !loop_.draining()) {
    stream_.Finish(ToGrpc(*end_), BeginFinish());
    return;
  }
  // Told once more: it may have been in no tick since engramd began to stop.
  stream_.WriteAndFinish(ToBytes(Make()), grpc::WriteOptions(), ToGrpc(*end_), BeginFinish());
}

}  // namespace engram
