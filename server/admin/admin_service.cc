#include "server/admin/admin_service.h"

#include <string>

#include "server/grpc/grpc_status.h"

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
}

}  // namespace

grpc::Status AdminService::Publish(grpc::ServerContext* context, const v1::PublishRequest* request,
                                   grpc::ServerWriter<v1::PublishProgress>* writer) {
  if (life_->state() != LifeState::kServing) {
    return ToGrpc(absl::UnavailableError("engramd is stopping: nothing is published any more"));
  }
  MonotonicTime next = clock_->Now();
  const auto set = sets_->Publish(
      request->directory(),
      [&](const LoadProgress& progress) {
        if (clock_->Now() < next) return;
        next = clock_->After(kProgressInterval);
        v1::PublishProgress message;
        message.set_bytes_done(progress.bytes_done);
        message.set_bytes_total(progress.bytes_total);
        writer->Write(message);  // one at a time, as progress comes
      },
      [&] { return context->IsCancelled(); });
  if (!set.ok()) return ToGrpc(set.status());
  v1::PublishProgress last;
  last.set_bytes_done((*set)->manifest().TableBytes());
  last.set_bytes_total(last.bytes_done());
  last.set_name((*set)->name());
  last.set_id((*set)->id());
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status AdminService::Retire(grpc::ServerContext*, const v1::RetireRequest* request,
                                  v1::RetireResponse*) {
  return ToGrpc(sets_->Supersede(request->table_set()));
}

grpc::Status AdminService::List(grpc::ServerContext*, const v1::ListRequest*,
                                v1::ListResponse* response) {
  response->set_state(std::string(Name(life_->state())));
  for (const TableSetStatus& set : sets_->List()) Describe(set, response->add_table_sets());
  if (const auto loading = sets_->loading()) {
    response->mutable_loading()->set_directory(loading->directory);
    response->mutable_loading()->set_bytes_done(loading->progress.bytes_done);
    response->mutable_loading()->set_bytes_total(loading->progress.bytes_total);
  }
  return grpc::Status::OK;
}

grpc::Status AdminService::Scrub(grpc::ServerContext* context, const v1::ScrubRequest*,
                                 grpc::ServerWriter<v1::ScrubReport>* writer) {
  const std::vector<std::shared_ptr<const TableSet>> sets = sets_->Held();
  uint64_t total = 0;
  for (const auto& set : sets) total += set->resident_bytes();
  v1::ScrubReport report;
  report.set_bytes_total(total);
  MonotonicTime next = clock_->Now();
  uint64_t before = 0;
  for (const auto& set : sets) {
    const absl::Status status = scrubber_->ScrubNow(*set, [&](uint64_t done, uint64_t) {
      if (clock_->Now() >= next) {
        next = clock_->After(kProgressInterval);
        report.set_bytes_done(before + done);
        writer->Write(report);
      }
      return !context->IsCancelled() && life_->state() == LifeState::kServing;
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
