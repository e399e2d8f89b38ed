#include "client/cluster/cluster_attach.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cluster/choose_set.h"
#include "client/cluster/cluster_transport.h"
#include "client/cluster/discovery/cluster_target.h"
#include "client/cluster/open_faster.h"
#include "client/cluster/store_watch.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/grpc/queue_driver.h"
#include "memstore/base/status_macros.h"
#include "memstore/cluster/cluster_map.h"

namespace engram {
namespace {

// Between two tries of a source of addresses that does not answer.
constexpr absl::Duration kSourceAgain = absl::Milliseconds(200);
// For the set's manifest at one store, before another is asked: it has just said that it is there.
constexpr absl::Duration kManifestTime = absl::Seconds(2);
// When nothing is said: stores whose manifest was not had are asked again.
constexpr absl::Duration kLookAgain = absl::Milliseconds(500);
// When nobody says how much a store takes at once: GrpcTransport's.
constexpr uint64_t kDefaultBatchRows = 1 << 20;
// What a name means, or no name at all, is chosen among the stores that were heard: for others when
// there is a set that could be taken. Stores that are there answer in milliseconds; an address that
// is silent delays an attach by this much, and by nothing where a whole id was asked for.
constexpr absl::Duration kHearOthers = absl::Milliseconds(500);
// Of the addresses that say nothing, those that a message names.
constexpr size_t kProblemsNamed = 4;

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsNotFound(status) ||
         absl::IsDeadlineExceeded(status) || absl::IsResourceExhausted(status);
}

class Attaching {
 public:
  Attaching(const ClusterOptions& options, const std::string& table_set)
      : options_(options),
        clock_(*options.clock),
        deadline_(clock_.After(options.timeout)),
        asked_(table_set) {}

  absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& place) {
    ENGRAM_ASSIGN_OR_RETURN(target_, ParseClusterTarget(place));
    ENGRAM_RETURN_IF_ERROR(StartWatch());
    while (true) {
      const uint64_t version = watch_->version();
      const absl::Status ready = Look();
      const MonotonicTime now = clock_.Now();
      const MonotonicTime again = std::min(deadline_, now + kLookAgain);
      if (ready.ok()) {
        if (!ready_since_) ready_since_ = now;
        const MonotonicTime choice = *ready_since_ + kHearOthers;
        // What is asked of the watch is of now, which may be more than what was looked at.
        const bool is_all = EveryAddressSpoke() && watch_->version() == version;
        if (is_all || IsWholeSetId(asked_) || now >= std::min(choice, deadline_)) return Make();
        watch_->AwaitChange(version, std::min(choice, again));
        continue;
      }
      const absl::Status final = Final(ready);
      if (!final.ok() && (watch_->version() == version || now >= deadline_)) return final;
      if (now >= deadline_) return WithProblems(ready);
      watch_->AwaitChange(version, again);
    }
  }

 private:
  absl::Status StartWatch() {
    // Its own files are no store's matter: what is wrong with one does not pass.
    const std::string any_address = "127.0.0.1:1";
    ENGRAM_RETURN_IF_ERROR(
        GrpcCredentials::Create(options_.security, any_address, clock_).status());
    while (true) {
      absl::StatusOr<std::unique_ptr<StoreWatch>> watch =
          StoreWatch::Start(target_, {.security = options_.security,
                                      .etcd = options_.etcd,
                                      .clock = options_.clock,
                                      .resolver = options_.resolver});
      if (watch.ok()) {
        watch_ = *std::move(watch);
        return absl::OkStatus();
      }
      if (!MayPass(watch.status()) || clock_.After(kSourceAgain) >= deadline_) {
        return watch.status();
      }
      clock_.SleepFor(kSourceAgain);
    }
  }

  // OK once there is a set, its manifest, and a ready replica of all of it.
  absl::Status Look() {
    const std::vector<StoreState> heard = watch_->Heard();
    looked_at_ = heard.size();
    if (heard.empty()) return absl::UnavailableError("no store of the cluster was heard");
    ENGRAM_ASSIGN_OR_RETURN(const std::string id, ChooseSet(asked_, heard));
    if (attachment_ == nullptr || attachment_->table_set().manifest.id != id) {
      const absl::Status manifest = TakeManifest(id, heard);
      lacks_manifest_ = !manifest.ok();
      if (lacks_manifest_) return manifest;
    }
    ENGRAM_ASSIGN_OR_RETURN(
        const std::shared_ptr<const ClusterMap> map,
        ClusterMap::Create(id, attachment_->table_set().manifest.scheme, watch_->Heard()));
    return map->CheckComplete();
  }

  absl::Status TakeManifest(const std::string& id, const std::vector<StoreState>& heard) {
    absl::Status status = absl::UnavailableError("no store of the set was heard");
    for (const StoreState& store : heard) {
      const bool has_it = std::any_of(store.sets.begin(), store.sets.end(), [&](const auto& set) {
        return set.set_id == id && set.state != HoldingState::kStaged;
      });
      const std::optional<StoreWatch::Way> way = watch_->WayTo(store.address);
      if (!has_it || store.role != StoreRole::kStore || !way) continue;
      const MonotonicTime now = clock_.Now();
      const absl::Duration left = deadline_ > now ? deadline_ - now : absl::ZeroDuration();
      const auto attachment = GrpcAttachment::Create(store.address, id,
                                                     {.timeout = std::min(kManifestTime, left),
                                                      .security = way->security,
                                                      .clock = options_.clock});
      if (attachment.ok()) {
        // Over the way that is there already.
        attachment_ =
            (*attachment)->At(store.address, way->credentials, way->channel, way->features);
        return absl::OkStatus();
      }
      status = attachment.status();
    }
    return status;
  }

  bool EveryAddressSpoke() const {
    return watch_->Heard().size() + watch_->problems().size() >= watch_->addresses();
  }

  // An error where `why` is none that may pass.
  absl::Status Final(const absl::Status& why) const {
    const std::map<std::string, absl::Status> problems = watch_->problems();
    const size_t addresses = watch_->addresses();
    if (absl::IsNotFound(why)) {
      const bool all_heard = problems.empty() && watch_->Heard().size() >= addresses;
      return all_heard ? WithProblems(why) : absl::OkStatus();
    }
    const bool all_hopeless =
        !problems.empty() && problems.size() >= addresses &&
        std::none_of(problems.begin(), problems.end(),
                     [](const auto& problem) { return MayPass(problem.second); });
    if (all_hopeless) return WithProblems(problems.begin()->second);
    // A store that was heard first and gives no manifest may be a liar: another one, be it heard
    // meanwhile, may be honest.
    if (lacks_manifest_ && looked_at_ + problems.size() < addresses) {
      return absl::OkStatus();
    }
    return MayPass(why) ? absl::OkStatus() : why;
  }

  // Of each address that is no store to ask, in words.
  std::vector<std::string> Problems() const {
    std::vector<std::string> problems;
    for (const auto& [address, problem] : watch_->problems()) {
      problems.emplace_back(problem.message());
    }
    for (const std::string& address : watch_->Silent()) {
      problems.push_back(absl::StrCat(address, " has said nothing yet"));
    }
    for (const StoreState& heard : watch_->Heard()) {
      if (heard.role != StoreRole::kGateway) continue;
      problems.push_back(absl::StrCat(heard.address,
                                      " is a gateway and none of the cluster's stores: leave it "
                                      "out, or attach to it alone, grpc:",
                                      heard.address));
    }
    return problems;
  }

  absl::Status WithProblems(const absl::Status& why) const {
    std::string text(why.message());
    size_t named = 0;
    for (const std::string& problem : Problems()) {
      if (absl::StrContains(text, problem)) continue;
      if (++named <= kProblemsNamed) absl::StrAppend(&text, "; ", problem);
    }
    if (named > kProblemsNamed) {
      absl::StrAppend(&text, "; and ", named - kProblemsNamed, " more addresses");
    }
    if (const absl::Status source = watch_->discovery_status(); !source.ok()) {
      absl::StrAppend(&text, "; ", source.message());
    } else if (target_.source == ClusterTarget::Source::kEtcd && watch_->addresses() == 0) {
      absl::StrAppend(&text, "; at etcd:", target_.etcd.Text(), " no store is registered",
                      watch_->ignored_keys() == 0 ? "" : ", and what is there is no store's",
                      ": do they run with --register etcd:", target_.etcd.Text(), "?");
    }
    const bool is_absence = absl::IsNotFound(why);
    return absl::Status(is_absence ? absl::StatusCode::kFailedPrecondition : why.code(), text);
  }

  absl::StatusOr<std::unique_ptr<Transport>> Make() {
    ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<QueueDriver> driver,
                            QueueDriver::Create(options_.spin, clock_));
    watch_->Use({attachment_->table_set().manifest.id});
    std::random_device random;
    const uint64_t seed = uint64_t{random()} << 32 | random();
    const StoreWatch* const watch = watch_.get();  // the transport's, as the function is
    const auto open =
        [watch, set = attachment_,
         driver](const std::string& address) -> absl::StatusOr<std::unique_ptr<Transport>> {
      const std::optional<StoreWatch::Way> way = watch->WayTo(address);
      if (!way) return absl::UnavailableError(absl::StrCat("nothing leads to ", address));
      return GrpcTransport::Create(set->At(address, way->credentials, way->channel, way->features),
                                   {.asks_once = true}, driver);
    };
    const auto open_faster = [watch, set = attachment_,
                              options = options_.faster](const std::string& address) -> FasterWay {
      const std::optional<StoreWatch::Way> way = watch->WayTo(address);
      const std::vector<StoreState> heard = watch->Heard();
      const auto store = std::find_if(heard.begin(), heard.end(), [&](const StoreState& one) {
        return one.address == address;
      });
      if (!way || store == heard.end()) return {.why = "it is not heard now", .may_come = true};
      return OpenFaster(set->At(address, way->credentials, way->channel, way->features), *store,
                        way->security, options);
    };
    const uint64_t rows = attachment_->offer().max_batch_rows;
    AttachedTableSet set = attachment_->table_set();
    set.held.clear();  // of one store
    return ClusterTransport::Create(
        {.table_set = std::move(set),
         .max_batch_rows = rows > 0 ? rows : kDefaultBatchRows,
         .owner_version = attachment_->offer().version,
         .directory = std::move(watch_),
         .open = open,
         .open_faster = options_.faster.grpc_alone ? nullptr : FasterWays::Open(open_faster),
         .spin = options_.spin,
         .driver = std::move(driver),
         .router = {.client_id = absl::StrCat(absl::Hex(seed)), .zone = options_.zone},
         .seed = seed,
         .clock = options_.clock});
  }

  const ClusterOptions& options_;
  Clock& clock_;
  const MonotonicTime deadline_;
  const std::string asked_;
  ClusterTarget target_;
  std::unique_ptr<StoreWatch> watch_;
  std::shared_ptr<const GrpcAttachment> attachment_;
  size_t looked_at_ = 0;                      // stores, when it was looked for a set last
  std::optional<MonotonicTime> ready_since_;  // there is a set that could be taken
  bool lacks_manifest_ = false;               // none of them gave the set's
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> AttachToCluster(const std::string& place,
                                                           const std::string& table_set,
                                                           const ClusterOptions& options) {
  return Attaching(options, table_set).Attach(place);
}

}  // namespace engram
