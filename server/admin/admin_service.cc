#include "server/admin/admin_service.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "memstore/base/human_units.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "server/base/log.h"
#include "server/grpc/grpc_status.h"
#include "server/table_sets/provenance_message.h"

namespace engram {
namespace {

// Between messages of a publication or a scrub that say how far it is.
constexpr absl::Duration kProgressInterval = absl::Milliseconds(200);

void Describe(const TableSetStatus& set, v1::TableSetEntry* entry) {
  const auto leases = [&](LeaseKind kind) { return set.leases[static_cast<size_t>(kind)]; };
  entry->set_name(set.name);
  entry->set_id(set.id);
  entry->set_directory(set.directory);
  entry->set_state(std::string(Name(set.state)));
  entry->set_resident_bytes(set.resident_bytes);
  entry->set_held_bytes(set.held_bytes);
  entry->set_table_bytes(set.table_bytes);
  entry->set_held(set.held);
  entry->set_page_kind(std::string(Name(set.page_kind)));
  entry->set_mapped_leases(leases(LeaseKind::kMapped));
  entry->set_ring_leases(leases(LeaseKind::kRing));
  entry->set_rdma_leases(leases(LeaseKind::kRdmaWrite));
  entry->set_rdma_read_leases(leases(LeaseKind::kRdmaRead));
  if (set.idle) entry->set_idle_s(set.idle->count());
  entry->set_age_s(set.age.count());
  if (set.state == TableSetState::kFenced) entry->set_missed(set.missed);
  if (set.provenance) SetProvenance(*set.provenance, entry->mutable_provenance());
  if (set.generation) entry->set_generation(*set.generation);
  entry->set_holdings_leases(leases(LeaseKind::kHoldings));
}

// An answer that is whole when the call is: deletes itself once gRPC is done with it.
class Answer final : public grpc::ServerUnaryReactor {
 public:
  Answer(OpenCalls* calls, grpc::CallbackServerContext* context, const absl::Status& status)
      : calls_(calls), call_(context->c_call()) {
    calls_->Answered(call_);
    Finish(ToGrpc(status));
  }
  void OnDone() override {
    calls_->Ended(call_);
    delete this;
  }

 private:
  ~Answer() override = default;

  OpenCalls* const calls_;
  grpc_call* const call_;
};

}  // namespace

AdminService::~AdminService() {
  MutexLock lock(mutex_);
  while (works_ > 0) changed_.Wait(mutex_);
}

std::string AdminService::Who(const grpc::ServerContextBase& context) const {
  const std::optional<std::string> user = UnixPeer(context);
  const std::string place = user ? "a Unix socket" : QuoteForMessage(context.peer());
  std::string name =
      targets_.access->NameForLog(context.auth_context().get(), context.client_metadata());
  if (name.empty() && !user) return place;
  if (name.empty()) name = *user;
  return absl::StrCat(name, " at ", place);
}

absl::Status AdminService::Admit(const grpc::ServerContextBase& context, AdminMethod method) const {
  const absl::Status status = targets_.access->Authenticate(context).status();
  if (!status.ok()) {
    targets_.refusals->Add(method, "admin_refused",
                           absl::StrCat("admit ", kAdminMethodNames[static_cast<size_t>(method)]),
                           Who(context), status);
  }
  return status;
}

absl::Status AdminService::StartWork(std::function<void()> work) {
  {
    MutexLock lock(mutex_);
    if (works_ >= kMostWorks) {
      return absl::ResourceExhaustedError(absl::StrCat(
          kMostWorks, " publications and scrubs are under way: wait until one is done"));
    }
    ++works_;
  }
  const auto done = [this] {
    MutexLock lock(mutex_);
    --works_;
    changed_.NotifyAll();
  };
  absl::StatusOr<std::thread> thread = StartThread("admin-work", [work = std::move(work), done] {
    work();
    done();
  });
  if (!thread.ok()) {
    done();
    return thread.status();
  }
  thread->detach();  // the destructor waits for it
  return absl::OkStatus();
}

grpc::ServerWriteReactor<v1::PublishProgress>* AdminService::Publish(
    grpc::CallbackServerContext* context, const v1::PublishRequest* request) {
  auto* const call = new PublishCall(&calls_, context);
  if (const absl::Status admitted = Admit(*context, AdminMethod::kPublish); !admitted.ok()) {
    call->End(std::nullopt, ToGrpc(admitted));
    return call;
  }
  const std::string who = Who(*context);
  const std::string directory = request->directory();
  const std::optional<uint64_t> generation =
      request->has_generation() ? std::make_optional(request->generation()) : std::nullopt;
  const auto refused = [this, who, directory](const absl::Status& status) {
    targets_.refusals->Add(AdminMethod::kPublish, "publish_refused",
                           absl::StrCat("publish ", directory), who, status);
  };
  const absl::Status started = StartWork([this, call, who, directory, generation, refused] {
    v1::PublishProgress last;
    const absl::Status status = PublishNow(directory, generation, who, *call, &last);
    if (!status.ok()) refused(status);
    call->End(status.ok() ? std::make_optional(std::move(last)) : std::nullopt, ToGrpc(status));
  });
  if (!started.ok()) {
    refused(started);
    call->End(std::nullopt, ToGrpc(started));
  }
  return call;
}

absl::Status AdminService::PublishNow(const std::string& directory,
                                      std::optional<uint64_t> generation, const std::string& who,
                                      PublishCall& call, v1::PublishProgress* last) {
  if (targets_.life->state() != LifeState::kServing) {
    return absl::UnavailableError("engramd is stopping: nothing is published any more");
  }
  const MonotonicTime begin = targets_.clock->Now();
  MonotonicTime next = begin;
  ENGRAM_ASSIGN_OR_RETURN(const PublishedSet published,
                          targets_.table_sets->Publish(
                              directory,
                              [&](const LoadProgress& progress) {
                                if (targets_.clock->Now() < next) return;
                                next = targets_.clock->After(kProgressInterval);
                                v1::PublishProgress message;
                                message.set_bytes_done(progress.bytes_done);
                                message.set_bytes_total(progress.bytes_total);
                                call.Tell(message);
                              },
                              [&] { return call.cancelled(); }, Keep::kYes, generation));
  const TableSet& set = *published.set;
  last->set_bytes_done(set.held_row_bytes());
  last->set_bytes_total(last->bytes_done());
  last->set_name(set.name());
  last->set_id(set.id());
  last->set_warning(published.warning);
  last->set_generation(published.generation);
  last->set_is_note(published.is_note);
  const double seconds = absl::ToDoubleSeconds(targets_.clock->Now() - begin);
  LogEvent(*targets_.log, spdlog::level::info, "published",
           {{"table_set", set.name()},
            {"table_set_id", set.id()},
            {"directory", directory},
            {"bytes", last->bytes_done()},
            {"seconds", seconds},
            {"id_before", published.id_before},
            {"generation", published.generation},
            {"peer", who}},
           absl::StrFormat("published %s %s from %s in %.1f s, for %s%s", set.name(), set.id(),
                           QuotePathForMessage(directory), seconds, who,
                           published.id_before.empty()
                               ? ""
                               : absl::StrCat("; the name led to ", published.id_before)));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::Retire(grpc::CallbackServerContext* context,
                                               const v1::RetireRequest* request,
                                               v1::RetireResponse* response) {
  if (const absl::Status admitted = Admit(*context, AdminMethod::kRetire); !admitted.ok()) {
    return new Answer(&calls_, context, admitted);
  }
  const MonotonicTime begin = targets_.clock->Now();
  const std::string who = Who(*context);
  const auto fenced = targets_.table_sets->DropFenced(request->table_set());
  if (fenced.ok()) {
    response->set_name(fenced->name);
    response->set_id(fenced->id);
    response->set_was_fenced(true);
    LogEvent(*targets_.log, spdlog::level::info, "fenced_dropped",
             {{"table_set", fenced->name},
              {"table_set_id", fenced->id},
              {"directory", fenced->directory},
              {"peer", who}},
             absl::StrCat("dropped ", fenced->name, " ", fenced->id, " of ", fenced->directory,
                          ", which was fenced, for ", who));
    return new Answer(&calls_, context, absl::OkStatus());
  }
  const auto set = absl::IsNotFound(fenced.status())
                       ? targets_.table_sets->Supersede(request->table_set())
                       : absl::StatusOr<std::shared_ptr<const TableSet>>(fenced.status());
  if (!set.ok()) {
    targets_.refusals->Add(AdminMethod::kRetire, "retire_refused",
                           absl::StrCat("retire ", request->table_set()), who, set.status());
    return new Answer(&calls_, context, set.status());
  }
  const int64_t grace_s = targets_.table_sets->retire_grace().count();
  response->set_name((*set)->name());
  response->set_id((*set)->id());
  response->set_grace_s(grace_s);
  const double seconds = absl::ToDoubleSeconds(targets_.clock->Now() - begin);
  LogEvent(
      *targets_.log, spdlog::level::info, "superseded",
      {{"table_set", (*set)->name()},
       {"table_set_id", (*set)->id()},
       {"directory", (*set)->directory()},
       {"seconds", seconds},
       {"grace_seconds", grace_s},
       {"peer", who}},
      absl::StrFormat("took the name from %s %s of %s in %.1f s, for %s: it is retired when "
                      "no client has it, in %d s at the latest",
                      (*set)->name(), (*set)->id(), (*set)->directory(), seconds, who, grace_s));
  return new Answer(&calls_, context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminService::List(grpc::CallbackServerContext* context,
                                             const v1::ListRequest*, v1::ListResponse* response) {
  if (const absl::Status admitted = Admit(*context, AdminMethod::kList); !admitted.ok()) {
    return new Answer(&calls_, context, admitted);
  }
  response->set_state(std::string(Name(targets_.life->state())));
  response->set_why_not_ready(targets_.why_not_ready());
  response->set_ready(response->why_not_ready().empty());
  for (const TableSetStatus& set : targets_.table_sets->List())
    Describe(set, response->add_table_sets());
  if (const auto loading = targets_.table_sets->loading()) {
    response->mutable_loading()->set_directory(loading->directory);
    response->mutable_loading()->set_bytes_done(loading->progress.bytes_done);
    response->mutable_loading()->set_bytes_total(loading->progress.bytes_total);
  }
  return new Answer(&calls_, context, absl::OkStatus());
}

grpc::ServerWriteReactor<v1::ScrubReport>* AdminService::Scrub(grpc::CallbackServerContext* context,
                                                               const v1::ScrubRequest*) {
  auto* const call = new ScrubCall(&calls_, context);
  if (const absl::Status admitted = Admit(*context, AdminMethod::kScrub); !admitted.ok()) {
    call->End(std::nullopt, ToGrpc(admitted));
    return call;
  }
  const std::string who = Who(*context);
  const absl::Status started = StartWork([this, call, who] {
    const MonotonicTime begin = targets_.clock->Now();
    v1::ScrubReport last;
    const absl::Status status = ScrubNow(*call, &last);
    LogScrub(last, status, begin, who);
    call->End(status.ok() ? std::make_optional(std::move(last)) : std::nullopt, ToGrpc(status));
  });
  if (!started.ok()) {
    targets_.refusals->Add(AdminMethod::kScrub, "scrub_refused", "scrub", who, started);
    call->End(std::nullopt, ToGrpc(started));
  }
  return call;
}

absl::Status AdminService::ScrubNow(ScrubCall& call, v1::ScrubReport* last) {
  const std::vector<std::shared_ptr<const TableSet>> sets = targets_.table_sets->Held();
  uint64_t total = 0;
  for (const auto& set : sets) total += set->resident_bytes();
  v1::ScrubReport& report = *last;
  report.set_bytes_total(total);
  MonotonicTime next = targets_.clock->Now();
  uint64_t before = 0;
  for (const auto& set : sets) {
    const absl::Status status = targets_.scrubber->ScrubNow(*set, [&](uint64_t done, uint64_t) {
      if (targets_.clock->Now() >= next) {
        next = targets_.clock->After(kProgressInterval);
        report.set_bytes_done(before + done);
        call.Tell(report);
      }
      return !call.cancelled() && targets_.life->state() == LifeState::kServing;
    });
    if (absl::IsCancelled(status)) return status;
    if (!status.ok()) report.add_damages(std::string(status.message()));
    before += set->resident_bytes();
  }
  report.set_bytes_done(total);
  report.set_done(true);
  return absl::OkStatus();
}

void AdminService::LogScrub(const v1::ScrubReport& report, const absl::Status& status,
                            MonotonicTime begin, const std::string& who) const {
  const double seconds = absl::ToDoubleSeconds(targets_.clock->Now() - begin);
  LogEvent(*targets_.log, spdlog::level::info, "scrubbed",
           {{"bytes", report.bytes_done()},
            {"damages", report.damages_size()},
            {"seconds", seconds},
            {"code", absl::StatusCodeToString(status.code())},
            {"peer", who}},
           absl::StrFormat("scrubbed %d of %d bytes in %.1f s, for %s: %s%s", report.bytes_done(),
                           report.bytes_total(), seconds, who,
                           Counted(static_cast<uint64_t>(report.damages_size()), "damage"),
                           status.ok() ? "" : ", and was cancelled"));
}

}  // namespace engram
