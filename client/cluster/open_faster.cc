#include "client/cluster/open_faster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/auto/first_way.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

// For what the store says that it offers; it has just been heard.
constexpr absl::Duration kOfferTime = absl::Seconds(2);
constexpr absl::Duration kRdmaTime = absl::Seconds(2);

bool Offers(const StoreState& store, absl::string_view transport) {
  return std::find(store.transports.begin(), store.transports.end(), transport) !=
         store.transports.end();
}

bool MayPass(const std::optional<absl::Status>& status) {
  return status.has_value() && (absl::IsUnavailable(*status) || absl::IsDeadlineExceeded(*status) ||
                                absl::IsResourceExhausted(*status));
}

bool IsHeld(const RowRange& rows, const HeldLayer& held) {
  return std::any_of(held.ranges.begin(), held.ranges.end(), [&](const RowRange& range) {
    return rows.first >= range.first && rows.first + rows.rows <= range.first + range.rows;
  });
}

}  // namespace

absl::StatusOr<FasterOptions> ParseClusterMode(absl::string_view mode) {
  FasterOptions options;
  options.grpc_alone = mode == "grpc";
  options.rings_alone = mode == "ring";
  options.reads = mode == "read";
  if (mode.empty() || mode == "write" || options.grpc_alone || options.rings_alone ||
      options.reads) {
    return options;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("mode ", QuoteForMessage(mode), " is none of a cluster's: it has the modes ",
                   "grpc, ring, write and read, beside the best way to each store"));
}

absl::Status CheckHoldsThoseOf(const AttachedTableSet& attached, const StoreState& store) {
  const auto set = std::find_if(store.sets.begin(), store.sets.end(), [&](const HeldSet& one) {
    return one.set_id == attached.manifest.id;
  });
  if (set == store.sets.end()) return absl::NotFoundError("the store has the set no more");
  if (attached.held.empty()) return absl::OkStatus();
  const std::vector<LayerAddressing>& layers = attached.manifest.scheme.layers;
  for (const HeldTableLayer& said : set->layers) {
    const auto at = std::find_if(layers.begin(), layers.end(), [&](const LayerAddressing& layer) {
      return layer.layer == said.layer;
    });
    const auto index = static_cast<size_t>(at - layers.begin());
    for (const RowRange& rows : said.rows.ranges) {
      if (index < attached.held.size() && IsHeld(rows, attached.held[index])) continue;
      return absl::NotFoundError(
          "what listens at the owner's socket on this machine is another owner, without its rows");
    }
  }
  return absl::OkStatus();
}

FasterWay OpenFaster(const std::shared_ptr<const GrpcAttachment>& at, const StoreState& store,
                     const SecurityOptions& security, const FasterOptions& options) {
  AutoFindings findings;
  if (Offers(store, "shm")) {
    const auto own = GrpcAttachment::Create(
        at->address(), at->table_set().manifest.id,
        {.timeout = kOfferTime, .security = security, .clock = &at->clock()});
    if (!own.ok()) {
      return {.why = absl::StrCat("no shm: ", own.status().message()),
              .may_come = MayPass(own.status())};
    }
    findings.shm_socket = (*own)->offer().shm_socket;
  }
  if (!Offers(store, "rdma")) findings.rdma = absl::NotFoundError("the owner offers none");
  FirstWay first = OpenFirstWay(
      at, std::move(findings),
      {.shm_mode = options.rings_alone ? "ring" : "",
       .rdma = {.timeout = kRdmaTime,
                .device = options.device,
                .reads = options.reads,
                .asks_once = true,
                .spin = absl::ZeroDuration()},  // several ways are looked at in turn
       .fits = [&](const Transport& way) { return CheckHoldsThoseOf(way.table_set(), store); }});
  FasterWay way{.why = std::move(first.why),
                .may_come = MayPass(first.findings.shm) || MayPass(first.findings.rdma)};
  if (first.transport == nullptr) return way;
  // Every transport is one.
  way.transport.reset(static_cast<TicketedTransport*>(first.transport.release()));
  const bool is_mapped = !way.transport->capabilities().lands_asynchronously;
  way.landing = is_mapped ? LandingWay::kCopied : LandingWay::kWritten;
  way.anywhere = first.way == AutoWay::kShm;
  return way;
}

}  // namespace engram
