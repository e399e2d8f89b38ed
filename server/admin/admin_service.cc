#include "server/admin/admin_service.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "memstore/base/quote_for_message.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/provenance_message.h"

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
  entry->set_page_kind(std::string(Name(set.page_kind)));
  entry->set_mapped_leases(leases(LeaseKind::kMapped));
  entry->set_ring_leases(leases(LeaseKind::kRing));
  entry->set_rdma_leases(leases(LeaseKind::kRdmaWrite));
  entry->set_rdma_read_leases(leases(LeaseKind::kRdmaRead));
  if (set.idle) entry->set_idle_s(set.idle->count());
  entry->set_age_s(set.age.count());
  if (set.provenance) SetProvenance(*set.provenance, entry->mutable_provenance());
}

}  // namespace

std::string AdminService::Who(const grpc::ServerContext& context) const {
  // Clients of a Unix socket have one name between them, and no place.
  const bool is_unix = context.peer() == "unix:";
  const std::string peer = is_unix ? "a Unix socket" : QuoteForMessage(context.peer());
  std::vector<std::string> names;
  if (const auto caller = targets_.access->Authenticate(context); caller.ok()) {
    names = caller->names;
  }
  if (names.empty()) {
    // Nobody is asked for a name here; a certificate has one all the same.
    for (const grpc::string_ref& name : context.auth_context()->GetPeerIdentity()) {
      names.emplace_back(name.data(), name.size());
    }
  }
  if (names.empty()) return is_unix ? absl::StrCat("a client at ", peer) : peer;
  return absl::StrCat(QuoteForMessage(absl::StrJoin(names, "+")), " at ", peer);
}

grpc::Status AdminService::Publish(grpc::ServerContext* context, const v1::PublishRequest* request,
                                   grpc::ServerWriter<v1::PublishProgress>* writer) {
  if (targets_.life->state() != LifeState::kServing) {
    return ToGrpc(absl::UnavailableError("engramd is stopping: nothing is published any more"));
  }
  const MonotonicTime begin = targets_.clock->Now();
  MonotonicTime next = begin;
  const auto published = targets_.table_sets->Publish(
      request->directory(),
      [&](const LoadProgress& progress) {
        if (targets_.clock->Now() < next) return;
        next = targets_.clock->After(kProgressInterval);
        v1::PublishProgress message;
        message.set_bytes_done(progress.bytes_done);
        message.set_bytes_total(progress.bytes_total);
        writer->Write(message);  // one at a time, as progress comes
      },
      [&] { return context->IsCancelled(); });
  if (!published.ok()) return ToGrpc(published.status());
  const TableSet& set = *published->set;
  v1::PublishProgress last;
  last.set_bytes_done(set.manifest().TableBytes());
  last.set_bytes_total(last.bytes_done());
  last.set_name(set.name());
  last.set_id(set.id());
  last.set_warning(published->warning);
  writer->Write(last);
  targets_.log->info("published {} {} from {} in {:.1f} s, for {}", set.name(), set.id(),
                     QuotePathForMessage(request->directory()),
                     absl::ToDoubleSeconds(targets_.clock->Now() - begin), Who(*context));
  return grpc::Status::OK;
}

grpc::Status AdminService::Retire(grpc::ServerContext* context, const v1::RetireRequest* request,
                                  v1::RetireResponse* response) {
  const MonotonicTime begin = targets_.clock->Now();
  const auto set = targets_.table_sets->Supersede(request->table_set());
  if (!set.ok()) return ToGrpc(set.status());
  const int64_t grace_s = targets_.table_sets->retire_grace().count();
  response->set_name((*set)->name());
  response->set_id((*set)->id());
  response->set_grace_s(grace_s);
  targets_.log->info(
      "took the name from {} {} of {} in {:.1f} s, for {}: it is retired when no client has it, in "
      "{} s at the latest",
      (*set)->name(), (*set)->id(), (*set)->directory(),
      absl::ToDoubleSeconds(targets_.clock->Now() - begin), Who(*context), grace_s);
  return grpc::Status::OK;
}

grpc::Status AdminService::List(grpc::ServerContext*, const v1::ListRequest*,
                                v1::ListResponse* response) {
  response->set_state(std::string(Name(targets_.life->state())));
  for (const TableSetStatus& set : targets_.table_sets->List())
    Describe(set, response->add_table_sets());
  if (const auto loading = targets_.table_sets->loading()) {
    response->mutable_loading()->set_directory(loading->directory);
    response->mutable_loading()->set_bytes_done(loading->progress.bytes_done);
    response->mutable_loading()->set_bytes_total(loading->progress.bytes_total);
  }
  return grpc::Status::OK;
}

grpc::Status AdminService::Scrub(grpc::ServerContext* context, const v1::ScrubRequest*,
                                 grpc::ServerWriter<v1::ScrubReport>* writer) {
  const std::vector<std::shared_ptr<const TableSet>> sets = targets_.table_sets->Held();
  uint64_t total = 0;
  for (const auto& set : sets) total += set->resident_bytes();
  v1::ScrubReport report;
  report.set_bytes_total(total);
  MonotonicTime next = targets_.clock->Now();
  uint64_t before = 0;
  for (const auto& set : sets) {
    const absl::Status status = targets_.scrubber->ScrubNow(*set, [&](uint64_t done, uint64_t) {
      if (targets_.clock->Now() >= next) {
        next = targets_.clock->After(kProgressInterval);
        report.set_bytes_done(before + done);
        writer->Write(report);
      }
      return !context->IsCancelled() && targets_.life->state() == LifeState::kServing;
    });
    if (absl::IsCancelled(status)) return ToGrpc(status);
    if (!status.ok()) report.add_damages(std::string(status.message()));
    before += set->resident_bytes();
  }
  report.set_bytes_done(total);
  report.set_done(true);
  writer->Write(report);
  return grpc::Status::OK;
}

}  // namespace engram
