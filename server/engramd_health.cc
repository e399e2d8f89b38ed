// What engramd makes of damage in its memory, and what it says of its health.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/status_macros.h"
#include "server/base/log.h"
#include "server/engramd.h"

namespace engram {

absl::Status Engramd::StartScrubber() {
  ENGRAM_ASSIGN_OR_RETURN(
      std::unique_ptr<Scrubber> scrubber,
      Scrubber::Create(
          {.mib_per_s = config_.scrub_mib_per_s,
           .sets = [this] { return table_sets_->Held(); },
           .on_mismatch = [this](const TableSet& set,
                                 const absl::Status& status) { OnDamage(set, status); }},
          *clock_));
  MutexLock lock(watched_mutex_);
  scrubber_ = std::move(scrubber);
  return absl::OkStatus();
}

// From here on nobody is served the set's rows, and engramd is not ready before its name leads to a
// set again, which was loaded and verified since.
void Engramd::OnDamage(const TableSet& set, const absl::Status& status) {
  if (!registry_.Fence(set.id()).ok()) return;  // it was fenced, or retired, meanwhile
  if (rdma_ != nullptr) rdma_->ForgetTables(set.id());
  // The scrubber's words begin with it as well, and end with what to do.
  const std::string which = absl::StrCat("table set ", set.name(), " ", set.id());
  LogEvent(*log_, spdlog::level::err, "fenced",
           {{"table_set", set.name()},
            {"table_set_id", set.id()},
            {"code", absl::StatusCodeToString(status.code())}},
           absl::StrCat(which, " is fenced: ",
                        absl::StripPrefix(status.message(), absl::StrCat(which, ": "))));
  ShowHealth();
}

// What gRPC's health says is what /readyz does.
void Engramd::ShowHealth() {
  if (health_ == nullptr) return;  // it loads
  MutexLock lock(health_mutex_);
  const auto show = [this](bool serving) {
    health_->SetServing(serving);
    if (admin_ != nullptr) admin_->SetServing(serving);
  };
  show(Snapshot().WhyNotReady().empty());
  // It may have been told to stop meanwhile.
  if (life_.state() != LifeState::kServing) show(false);
}

}  // namespace engram
