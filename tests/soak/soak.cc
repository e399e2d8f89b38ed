#include "tests/soak/soak.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/target.h"
#include "memstore/base/clock.h"
#include "memstore/os/thread.h"

namespace engram::soak {
namespace {

// Long past what any batch takes, on a machine that is slow and busy and stops us for seconds.
constexpr absl::Duration kLongDeadline = absl::Seconds(180);
constexpr absl::Duration kLeastTime = absl::Microseconds(10);
constexpr absl::Duration kMostTime = absl::Milliseconds(30);
// A stream that was ended while we were stopped is found to be when it is used next.
constexpr absl::Duration kAfterStop = absl::Seconds(10);
// The places that have buffers for the largest of the usual batches; the others bound memory.
constexpr size_t kLargePlaces = 2;
constexpr uint64_t kSmallPlaceShare = 8;
constexpr uint64_t kSmallTokens = 16;
constexpr size_t kKeptBytes = size_t{64} << 20;
constexpr size_t kMostLatencies = 1 << 20;
constexpr int kMostPolls = 200;
constexpr absl::Duration kPollEvery = absl::Microseconds(50);

std::atomic<uint64_t> stops{0};

}  // namespace

void CountStops() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stops.fetch_add(1, std::memory_order_relaxed); };
  action.sa_flags = SA_RESTART;
  sigaction(SIGCONT, &action, nullptr);
}

Soak::Soak(const SoakOptions& options) : options_(options), draws_(options.seed) {}

absl::Status Soak::Run() {
  absl::Status status = Attach();
  const MonotonicTime end = RealClock().Now() + options_.time;
  while (status.ok() && (RealClock().Now() < end || counts_.rows == 0)) status = Step();
  while (status.ok() && in_flight_ > 0) status = End(*Pick(/*in_flight=*/true));
  client_.reset();
  for (Slot& slot : slots_) {
    if (status.ok()) status = slot.batch.CheckGivenBack();
  }
  return status;
}

absl::Status Soak::Attach() {
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Attach(options_.target, options_.attach);
  if (!client.ok()) {
    return absl::Status(client.status().code(),
                        absl::StrCat("cannot attach: ", client.status().message()));
  }
  client_ = *std::move(client);
  over_grpc_ = client_->transport().capabilities().name == "grpc";
  if (over_grpc_ && by_hand_ == nullptr) {
    const absl::StatusOr<Target> target = ParseTarget(options_.target);
    if (!target.ok()) return target.status();
    by_hand_ = std::make_unique<WrongRequests>(target->place);
  }
  ++counts_.attached;
  return absl::OkStatus();
}

// As a rule with batches in flight, which the transport takes back when it goes.
absl::Status Soak::Reattach() {
  client_.reset();
  for (Slot& slot : slots_) {
    if (!std::exchange(slot.in_flight, false)) continue;
    if (absl::Status status = slot.batch.CheckOutside(); !status.ok()) return status;
    slot.batch.GiveBack();
    ++counts_.left;
  }
  in_flight_ = 0;
  return Attach();
}

absl::Status Soak::Step() {
  if (const uint64_t now = stops.load(std::memory_order_relaxed); now != stops_seen_) {
    stops_seen_ = now;
    stopped_until_ = RealClock().Now();
  }
  absl::Status status;
  if (draws_.OneIn(16)) most_in_flight_ = 1 + draws_.Below(kMostInFlight);
  if (draws_.OneIn(60)) status = Reattach();
  if (status.ok() && draws_.OneIn(64)) status = AskWrongly();
  if (draws_.OneIn(32)) absl::SleepFor(draws_.Time(kLeastTime, kMostTime));
  while (status.ok() && in_flight_ < most_in_flight_) status = Begin();
  if (status.ok() && in_flight_ > 0) status = End(*Pick(/*in_flight=*/true));
  return status;
}

// A random one of the places; there is one.
Soak::Slot* Soak::Pick(bool in_flight) {
  while (true) {
    Slot& slot = slots_[draws_.Below(slots_.size())];
    if (slot.in_flight == in_flight) return &slot;
  }
}

Soak::Fate Soak::DrawFate() {
  switch (draws_.Below(16)) {
    case 0:
      return Fate::kCancel;
    case 1:
      return Fate::kCancelLate;
    case 2:
      return Fate::kReap;
    case 3:
      return Fate::kPoll;
    case 4:
      return Fate::kWaitLayerAndCancel;
    case 5:
    case 6:
      return Fate::kWaitLayers;
    default:
      return Fate::kWait;
  }
}

MonotonicTime Soak::DrawDeadline(Slot& slot) {
  slot.may_be_late = draws_.OneIn(12);
  if (slot.may_be_late) return RealClock().Now() + draws_.Time(kLeastTime, kMostTime);
  return draws_.OneIn(8) ? MonotonicTime::Infinite() : RealClock().Now() + kLongDeadline;
}

absl::Status Soak::Begin() {
  Slot& slot = *Pick(/*in_flight=*/false);
  const bool large_place = static_cast<size_t>(&slot - slots_.data()) < kLargePlaces;
  const Manifest& manifest = client_->table_set();
  const uint64_t most_rows = client_->transport().capabilities().max_batch_rows;
  const bool largest =
      options_.largest_rows > 0 && in_flight_ == 0 && draws_.OneIn(counts_.batches == 0 ? 4 : 200);
  absl::Status status;
  if (largest) {
    ++counts_.largest;
    const uint64_t rows = std::min(most_rows, options_.largest_rows);
    status = slot.batch.Draw(manifest, rows / manifest.scheme.Columns() + 1, rows, draws_);
  } else {
    const uint64_t tokens =
        draws_.Size(large_place ? options_.most_tokens : options_.most_tokens / kSmallPlaceShare);
    status = slot.batch.Draw(manifest, tokens, most_rows, draws_);
  }
  if (!status.ok()) return status;
  slot.alone = in_flight_ == 0 && most_in_flight_ == 1;
  slot.fate = DrawFate();
  slot.stops = stops.load(std::memory_order_relaxed);
  return Submit(slot);
}

absl::Status Soak::Submit(Slot& slot) {
  slot.layers_in_place = 0;
  ++counts_.batches;
  const MonotonicTime deadline = DrawDeadline(slot);
  slot.begun = RealClock().Now();
  const absl::StatusOr<Ticket> ticket =
      client_->Submit({.layers = slot.batch.layers(), .deadline = deadline});
  if (!ticket.ok()) {
    // Nothing was lent.
    absl::Status status = Judge(slot, ticket.status());
    slot.batch.GiveBack();
    return status;
  }
  slot.ticket = *ticket;
  slot.in_flight = true;
  ++in_flight_;
  return absl::OkStatus();
}

absl::Status Soak::End(Slot& slot) {
  if (slot.fate == Fate::kReap) {
    ++counts_.reaped;
    return Reap(slot);
  }
  const absl::Status outcome = WaitAsDrawn(slot);
  const double us = absl::ToDoubleMicroseconds(RealClock().Now() - slot.begun);
  absl::Status status = wrong_;
  if (status.ok()) status = Judge(slot, outcome);
  if (status.ok() && outcome.ok()) status = CheckLanded(slot);
  if (outcome.ok() && slot.alone && slot.fate == Fate::kWait &&
      slot.batch.tokens() <= kSmallTokens && counts_.small_us.size() < kMostLatencies) {
    counts_.small_us.push_back(us);
  }
  if (!status.ok()) return status;
  return Reap(slot);
}

// The batch's outcome; what is wrong beside it stands in wrong_.
absl::Status Soak::WaitAsDrawn(Slot& slot) {
  const size_t layers = slot.batch.layers().size();
  switch (slot.fate) {
    case Fate::kCancel:
      client_->Cancel(slot.ticket);
      break;
    case Fate::kCancelLate:
      return WaitAndCancel(slot);
    case Fate::kWaitLayers:
      if (absl::Status status = WaitForLayers(slot, layers); !status.ok()) return status;
      break;
    case Fate::kWaitLayerAndCancel:
      if (absl::Status status = WaitForLayers(slot, 1); !status.ok()) return status;
      client_->Cancel(slot.ticket);
      break;
    case Fate::kPoll:
      return PollAndWait(slot);
    case Fate::kWait:
    case Fate::kReap:
      break;
  }
  return client_->Wait(slot.ticket);
}

absl::Status Soak::WaitForLayers(Slot& slot, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    absl::Status status = client_->transport().WaitLayer(slot.ticket, i);
    if (!status.ok()) return status;
    slot.layers_in_place = i + 1;
    wrong_ = slot.batch.CheckRows(i);
    if (!wrong_.ok()) break;
  }
  return absl::OkStatus();
}

absl::Status Soak::PollAndWait(Slot& slot) {
  TicketState state = TicketState::kInFlight;
  for (int i = 0; i < kMostPolls && state == TicketState::kInFlight; ++i) {
    if (i > 0) absl::SleepFor(kPollEvery);
    state = client_->Poll(slot.ticket);
  }
  absl::Status outcome = client_->Wait(slot.ticket);
  if (state == TicketState::kLanded && !outcome.ok()) {
    wrong_ = absl::InternalError(
        absl::StrCat("a batch that Poll said to have landed is ", outcome.ToString()));
  }
  return outcome;
}

absl::Status Soak::WaitAndCancel(Slot& slot) {
  const absl::Duration after = draws_.Time(kLeastTime, kMostTime);
  absl::StatusOr<std::thread> canceller = StartThread("canceller", [&] {
    absl::SleepFor(after);
    client_->Cancel(slot.ticket);
  });
  if (!canceller.ok()) wrong_ = canceller.status();
  absl::Status outcome = client_->Wait(slot.ticket);
  if (canceller.ok()) canceller->join();
  return outcome;
}

bool Soak::Allows(const Slot& slot, absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return true;
    case absl::StatusCode::kDeadlineExceeded:
      return slot.may_be_late;
    case absl::StatusCode::kCancelled:
      return slot.fate == Fate::kCancel || slot.fate == Fate::kCancelLate ||
             slot.fate == Fate::kWaitLayerAndCancel;
    case absl::StatusCode::kResourceExhausted:
      return over_grpc_;
    case absl::StatusCode::kUnavailable:
      return over_grpc_ && WasStopped(slot.stops, slot.begun);
    default:
      return false;
  }
}

absl::Status Soak::Judge(Slot& slot, const absl::Status& outcome) {
  ++counts_.codes[absl::StatusCodeToString(outcome.code())];
  if (Allows(slot, outcome.code())) return absl::OkStatus();
  return absl::Status(
      outcome.code(),
      absl::StrCat("a batch of ", slot.batch.rows(), " rows ended with ",
                   absl::StatusCodeToString(outcome.code()),
                   ", which nothing that was done to it allows: ", outcome.message()));
}

absl::Status Soak::CheckLanded(Slot& slot) {
  for (size_t i = 0; i < slot.batch.layers().size(); ++i) {
    if (absl::Status status = slot.batch.CheckRows(i); !status.ok()) return status;
  }
  counts_.rows += slot.batch.rows();
  return absl::OkStatus();
}

absl::Status Soak::Reap(Slot& slot) {
  // What became of the others does not change a layer that was in place.
  for (size_t i = 0; i < slot.layers_in_place; ++i) {
    if (absl::Status status = slot.batch.CheckRows(i); !status.ok()) return status;
  }
  client_->Reap(slot.ticket);
  slot.in_flight = false;
  --in_flight_;
  if (client_->Poll(slot.ticket) != TicketState::kReaped) {
    return absl::InternalError("a ticket that was reaped is known still");
  }
  if (absl::Status status = slot.batch.CheckOutside(); !status.ok()) return status;
  slot.batch.GiveBack();
  slot.batch.Shrink(kKeptBytes);
  return absl::OkStatus();
}

// Past the SDK too where that is possible.
absl::Status Soak::AskWrongly() {
  ++counts_.wrong;
  if (by_hand_ == nullptr || draws_.OneIn(2)) return AskClientWrongly(*client_, draws_);
  const uint64_t stops_before = stops.load(std::memory_order_relaxed);
  const absl::Status status = by_hand_->Ask(client_->table_set(), kLongDeadline, draws_);
  if (absl::IsInvalidArgument(status)) return absl::OkStatus();
  // As a batch of the SDK's, which calls it UNAVAILABLE.
  const bool dropped = absl::IsCancelled(status) || absl::IsUnavailable(status);
  if (dropped && WasStopped(stops_before, RealClock().Now())) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("engramd answered a wrong request with ", status.ToString()));
}

// Since there had been so many stops, or shortly before `begun`.
bool Soak::WasStopped(uint64_t stops_before, MonotonicTime begun) const {
  return stops.load(std::memory_order_relaxed) != stops_before ||
         begun < stopped_until_ + kAfterStop;
}

}  // namespace engram::soak
