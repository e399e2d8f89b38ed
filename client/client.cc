#include "client/client.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "client/target.h"
#include "client/transport/auto_transport.h"
#include "client/transport/embedded_transport.h"
#include "client/transport/grpc_transport.h"
#include "client/transport/rdma_transport.h"
#include "client/transport/shm_transport.h"

namespace engram {
namespace {

absl::Status CheckMode(const Target& target, absl::string_view mode) {
  if (mode.empty()) return absl::OkStatus();
  absl::string_view modes = "no modes";
  if (target.kind == Target::Kind::kGrpc) {
    if (mode == "stream" || mode == "unary") return absl::OkStatus();
    modes = "the modes stream and unary";
  } else if (target.kind == Target::Kind::kShm) {
    if (mode == "ring") return absl::OkStatus();
    modes = "the mode ring, beside mapping the tables";
  } else if (target.kind == Target::Kind::kRdma) {
    if (mode == "write" || mode == "read") return absl::OkStatus();
    modes = "the modes write and read";
  }
  return absl::InvalidArgumentError(
      absl::StrCat("mode ", mode, " is none of this target's: it has ", modes));
}

// A batch of up to so many layers is described without allocating; models have one to three.
constexpr size_t kInlineLayers = 8;

absl::StatusOr<std::unique_ptr<Transport>> AttachTransport(const Target& target,
                                                           const AttachOptions& options) {
  switch (target.kind) {
    case Target::Kind::kEmbedded:
      return EmbeddedTransport::Attach(target.place, options.table_set);
    case Target::Kind::kGrpc:
      return GrpcTransport::Attach(target.place, options.table_set,
                                   {.timeout = options.timeout,
                                    .unary = options.mode == "unary",
                                    .connections = options.connections,
                                    .streams = options.streams,
                                    .spin = options.spin});
    case Target::Kind::kShm:
      return ShmTransport::Attach(target.place, options.table_set, options.timeout, options.mode);
    case Target::Kind::kRdma:
      return RdmaTransport::Attach(target.place, options.table_set,
                                   {.timeout = options.timeout,
                                    .device = options.rdma_device,
                                    .reads = options.mode == "read",
                                    .spin = options.spin});
    case Target::Kind::kAuto:
      return AutoTransport::Attach(
          target.place, options.table_set,
          {.timeout = options.timeout, .device = options.rdma_device, .spin = options.spin});
  }
  return absl::InternalError("a kind of target without a transport");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Attach(absl::string_view target,
                                                       const AttachOptions& options) {
  const absl::StatusOr<Target> parsed = ParseTarget(target);
  if (!parsed.ok()) return parsed.status();
  if (absl::Status status = CheckMode(*parsed, options.mode); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Transport>> transport = AttachTransport(*parsed, options);
  if (!transport.ok()) return transport.status();
  return Create(*std::move(transport));
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(std::unique_ptr<Transport> transport) {
  const AttachedTableSet& set = transport->table_set();
  absl::StatusOr<std::shared_ptr<const Addresser>> addresser =
      Addresser::Create(set.manifest.scheme, set.token_map);
  if (!addresser.ok()) return addresser.status();
  return std::unique_ptr<Client>(new Client(std::move(transport), *std::move(addresser)));
}

Client::~Client() = default;

absl::Status Client::PlanTokens(const SequenceState& state, absl::Span<const int32_t> token_ids,
                                absl::Span<const uint8_t> dead, Plan* plan) const {
  const AddressScheme& scheme = addresser_->scheme();
  const uint32_t columns = scheme.Columns();
  plan->tokens = token_ids.size();
  plan->inverse.clear();
  plan->row_ids.resize(scheme.layers.size());
  absl::InlinedVector<LayerRowIdsOutput, kInlineLayers> outputs(scheme.layers.size());
  for (uint32_t i = 0; i < scheme.layers.size(); ++i) {
    plan->row_ids[i].resize(token_ids.size() * columns);
    outputs[i] = {.layer_index = i, .rows = plan->row_ids[i].data(), .token_stride = columns};
  }
  return addresser_->Address(state, token_ids, dead, outputs);
}

void Client::MakeDistinct(Plan* plan) {
  if (!plan->inverse.empty()) return;  // its inverse is of the dense order, which is gone
  plan->inverse.resize(plan->row_ids.size());
  for (size_t i = 0; i < plan->row_ids.size(); ++i) {
    planner_.DistinctInverse(plan->row_ids[i], &plan->scratch, &plan->inverse[i]);
    plan->row_ids[i].swap(plan->scratch);
  }
}

absl::StatusOr<Ticket> Client::Prefetch(const SequenceState& state,
                                        absl::Span<const int32_t> token_ids,
                                        absl::Span<const uint8_t> dead,
                                        absl::Span<const Landing> landings, absl::Time deadline,
                                        Plan* plan) {
  absl::Status status = PlanTokens(state, token_ids, dead, plan);
  if (!status.ok()) return status;
  return Submit(*plan, landings, deadline);
}

absl::StatusOr<Ticket> Client::Submit(const Plan& plan, absl::Span<const Landing> landings,
                                      absl::Time deadline) {
  const std::vector<LayerTableSpec>& layers = table_set().layers;
  if (plan.row_ids.size() != layers.size() || landings.size() != layers.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the table set has ", layers.size(), " layers: the plan is for ",
                     plan.row_ids.size(), " and there are ", landings.size(), " landings"));
  }
  absl::InlinedVector<LayerRequest, kInlineLayers> requests(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    requests[i] = {.layer = layers[i].layer, .row_ids = plan.row_ids[i], .landing = landings[i]};
  }
  return transport_->Submit({.layers = requests, .deadline = deadline});
}

absl::Status Client::Lookup(const BatchRequest& batch) {
  const absl::StatusOr<Ticket> ticket = transport_->Submit(batch);
  if (!ticket.ok()) return ticket.status();
  absl::Status status = transport_->Wait(*ticket);
  transport_->Reap(*ticket);
  return status;
}

}  // namespace engram
