#include "client/client.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "client/cluster/cluster_attach.h"
#include "client/cluster/open_faster.h"
#include "client/target.h"
#include "client/transport/auto/auto_transport.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/local/embedded_transport.h"
#include "client/transport/rdma/rdma_transport.h"
#include "client/transport/shm/shm_transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/status_macros.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

static_assert(AttachOptions::kMaxConnections == GrpcOptions::kMaxConnections &&
              AttachOptions::kMaxStreams == GrpcOptions::kMaxStreams);

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
  } else if (target.kind == Target::Kind::kCluster) {
    return ParseClusterMode(mode).status();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("mode ", mode, " is none of this target's: it has ", modes));
}

// A batch of up to so many layers is described without allocating; models have one to three.
constexpr size_t kInlineLayers = 8;
// Scratch of SubmitTokens is kept up to this: the row ids of 8,192 tokens of a model with 32
// columns.
constexpr uint64_t kMaxKeptBytes = 2 << 20;

absl::StatusOr<std::unique_ptr<Transport>> AttachTransport(const Target& target,
                                                           const AttachOptions& options) {
  switch (target.kind) {
    case Target::Kind::kEmbedded:
      return EmbeddedTransport::Attach(target.place, options.table_set, *options.clock);
    case Target::Kind::kGrpc:
      return GrpcTransport::Attach(target.place, options.table_set,
                                   {.timeout = options.timeout,
                                    .unary = options.mode == "unary",
                                    .connections = options.connections,
                                    .streams = options.streams,
                                    .spin = options.spin,
                                    .security = options.security,
                                    .clock = options.clock});
    case Target::Kind::kShm:
      return ShmTransport::Attach(target.place, options.table_set, options.timeout, options.mode,
                                  *options.clock);
    case Target::Kind::kRdma:
      return RdmaTransport::Attach(target.place, options.table_set,
                                   {.timeout = options.timeout,
                                    .device = options.rdma_device,
                                    .reads = options.mode == "read",
                                    .spin = options.spin,
                                    .security = options.security,
                                    .clock = options.clock});
    case Target::Kind::kAuto:
      return AutoTransport::Attach(target.place, options.table_set,
                                   {.timeout = options.timeout,
                                    .device = options.rdma_device,
                                    .spin = options.spin,
                                    .security = options.security,
                                    .clock = options.clock});
    case Target::Kind::kCluster: {
      ENGRAM_ASSIGN_OR_RETURN(FasterOptions faster, ParseClusterMode(options.mode));
      faster.device = options.rdma_device;
      return AttachToCluster(target.place, options.table_set,
                             {.timeout = options.timeout,
                              .faster = std::move(faster),
                              .spin = options.spin,
                              .zone = options.zone,
                              .security = options.security,
                              .etcd = options.etcd,
                              .clock = options.clock});
    }
  }
  return absl::InternalError("a kind of target without a transport");
}

}  // namespace

absl::string_view SdkVersion() { return kEngramVersion; }

absl::StatusOr<std::unique_ptr<Client>> Client::Attach(absl::string_view target,
                                                       const AttachOptions& options) {
  const absl::StatusOr<Target> parsed = ParseTarget(target);
  if (!parsed.ok()) return parsed.status();
  if (absl::Status status = CheckMode(*parsed, options.mode); !status.ok()) return status;
  if (!options.zone.empty()) ENGRAM_RETURN_IF_ERROR(CheckPlainName(options.zone, "a zone's name"));
  absl::StatusOr<std::unique_ptr<Transport>> transport = AttachTransport(*parsed, options);
  if (!transport.ok()) return transport.status();
  return Create(*std::move(transport), *options.clock, options.allow_unmasked_images);
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(std::unique_ptr<Transport> transport,
                                                       const Clock& clock,
                                                       bool allow_unmasked_images) {
  const AttachedTableSet& set = transport->table_set();
  absl::Span<const int32_t> images = set.image_token_ids;
  if (allow_unmasked_images) images = {};
  absl::StatusOr<std::shared_ptr<const Addresser>> addresser = Addresser::Create(
      set.manifest.scheme, set.token_map, ShortSetId::Of(set.manifest.id), images);
  if (!addresser.ok()) return addresser.status();
  return std::unique_ptr<Client>(
      new Client(std::move(transport), *std::move(addresser), clock, allow_unmasked_images));
}

Client::~Client() = default;

absl::Status Client::CheckSlicesOfSet(absl::Span<const ColumnSlice> slices) const {
  const AddressScheme& scheme = addresser_->scheme();
  const auto layer = [&](size_t i) { return scheme.layers[i].layer; };
  return CheckSlices(slices, scheme.layers.size(), layer, scheme.Columns());
}

Client::LayerOutputs Client::MakeRoom(uint64_t tokens, absl::Span<const ColumnSlice> slices,
                                      Plan* plan) const {
  const AddressScheme& scheme = addresser_->scheme();
  plan->tokens = tokens;
  plan->set = addresser_->set();
  if (slices.data() != plan->slices.data() || slices.size() != plan->slices.size()) {
    plan->slices.assign(slices.begin(), slices.end());
  }
  plan->inverse.clear();
  plan->row_ids.resize(scheme.layers.size());
  LayerOutputs outputs(scheme.layers.size());
  for (uint32_t i = 0; i < scheme.layers.size(); ++i) {
    const ColumnSlice* const slice = plan->slices.empty() ? nullptr : &plan->slices[i];
    const uint32_t columns = slice == nullptr ? scheme.Columns() : slice->columns();
    plan->row_ids[i].resize(tokens * columns);
    outputs[i] = {
        .layer_index = i, .rows = plan->row_ids[i].data(), .token_stride = columns, .slice = slice};
  }
  return outputs;
}

absl::Status Client::PlanTokens(const SequenceState& state, absl::Span<const int32_t> token_ids,
                                absl::Span<const uint8_t> dead, Plan* plan,
                                absl::Span<const ColumnSlice> slices) const {
  absl::Status status = CheckSlicesOfSet(slices);
  if (status.ok()) {
    status = addresser_->Address(state, token_ids, dead, MakeRoom(token_ids.size(), slices, plan));
  }
  // Whoever submits it all the same is told, and gets no rows of the batch before.
  if (!status.ok()) plan->row_ids.clear();
  return status;
}

uint64_t Client::TokensScratch::KeptBytes() const {
  uint64_t bytes = parts.capacity() * sizeof(SequenceTokens);
  for (const std::vector<RowId>& ids : plan.row_ids) bytes += ids.capacity() * sizeof(RowId);
  return bytes;
}

absl::Status Client::Refused(absl::Status status) {
  counters_.Refused(status.code());
  return status;
}

void Client::MakeDistinct(Plan* plan) {
  if (!plan->inverse.empty()) return;  // its inverse is of the dense order, which is gone
  plan->inverse.resize(plan->row_ids.size());
  for (size_t i = 0; i < plan->row_ids.size(); ++i) {
    deduplicator_.DistinctInverse(plan->row_ids[i], &plan->scratch, &plan->inverse[i]);
    counters_.MadeDistinct(plan->row_ids[i].size(), plan->scratch.size());
    plan->row_ids[i].swap(plan->scratch);
  }
}

absl::StatusOr<Ticket> Client::Prefetch(const SequenceState& state,
                                        absl::Span<const int32_t> token_ids,
                                        absl::Span<const uint8_t> dead,
                                        absl::Span<const Landing> landings, MonotonicTime deadline,
                                        Plan* plan, absl::Span<const ColumnSlice> slices) {
  absl::Status status = PlanTokens(state, token_ids, dead, plan, slices);
  if (!status.ok()) return Refused(std::move(status));
  return SubmitLayers(plan, nullptr, landings, deadline);
}

absl::StatusOr<Ticket> Client::SubmitLayers(const Plan* plan, const TokenBatch* tokens,
                                            absl::Span<const Landing> landings,
                                            MonotonicTime deadline) {
  const std::vector<LayerTableSpec>& layers = table_set().layers;
  if (landings.size() != layers.size()) {
    return Refused(absl::InvalidArgumentError(absl::StrCat("the table set has ", layers.size(),
                                                           " layers and there are ",
                                                           landings.size(), " landings")));
  }
  absl::InlinedVector<LayerRequest, kInlineLayers> requests(layers.size());
  // Distinct ids have no order, and were in the order of columns before they were made so.
  const bool dense = plan != nullptr && plan->inverse.empty();
  const ColumnSlice all = ColumnSlice::All(addresser_->scheme().Columns());
  for (size_t i = 0; i < layers.size(); ++i) {
    requests[i] = {.layer = layers[i].layer, .row_ids = {}, .landing = landings[i]};
    if (plan == nullptr) continue;
    requests[i].row_ids = plan->row_ids[i];
    const ColumnSlice* const slice = plan->slices.empty() ? &all : &plan->slices[i];
    if (dense || slice->empty()) requests[i].slice = slice;
  }
  return Submit(BatchRequest{.layers = requests, .deadline = deadline, .tokens = tokens});
}

absl::StatusOr<Ticket> Client::Submit(const Plan& plan, absl::Span<const Landing> landings,
                                      MonotonicTime deadline) {
  if (!plan.set.is_none()) {
    absl::Status status = CheckSameSet("the plan", plan.set, addresser_->set(),
                                       "plan the tokens again with this client");
    if (!status.ok()) return Refused(std::move(status));
  }
  const size_t layers = table_set().layers.size();
  if (plan.row_ids.size() != layers) {
    return Refused(absl::InvalidArgumentError(absl::StrCat(
        "the table set has ", layers, " layers: the plan is for ", plan.row_ids.size())));
  }
  if (absl::Status status = CheckSlicesOfSet(plan.slices); !status.ok()) {
    return Refused(std::move(status));
  }
  return SubmitLayers(&plan, nullptr, landings, deadline);
}

absl::Status Client::CheckSequences(absl::Span<const SequenceTokens> sequences,
                                    absl::Span<const int32_t> token_ids,
                                    absl::Span<const uint8_t> dead) const {
  uint64_t tokens = 0;
  for (const SequenceTokens& sequence : sequences) tokens += sequence.tokens;
  if (tokens != token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the sequences have ", tokens, " tokens and there are ", token_ids.size(), " token ids"));
  }
  if (!dead.empty() && dead.size() != token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a dead mask of ", dead.size(), " bytes for ",
                                                   token_ids.size(), " token ids"));
  }
  return absl::OkStatus();
}

// Many rows repeat, and travel once by row ids alone: a row is far more bytes than its id.
bool Client::GoByTokens(const Capabilities& transport, uint64_t tokens,
                        absl::Span<const ColumnSlice> slices) const {
  if (transport.max_sequence_tokens == 0 || (!slices.empty() && !transport.token_slices)) {
    return false;
  }
  if (transport.repeats_removed_from == 0) return true;
  uint32_t columns = slices.empty() ? addresser_->scheme().Columns() : 0;
  for (const ColumnSlice& slice : slices) columns = std::max(columns, slice.columns());
  return tokens * columns < transport.repeats_removed_from;
}

absl::StatusOr<Ticket> Client::SubmitTokens(absl::Span<const SequenceTokens> sequences,
                                            absl::Span<const int32_t> token_ids,
                                            absl::Span<const uint8_t> dead,
                                            absl::Span<const Landing> landings,
                                            MonotonicTime deadline,
                                            absl::Span<const ColumnSlice> slices) {
  absl::Status status = CheckSequences(sequences, token_ids, dead);
  if (status.ok()) status = CheckSlicesOfSet(slices);
  if (!status.ok()) return Refused(std::move(status));
  if (std::all_of(slices.begin(), slices.end(), [](const auto& slice) { return slice.is_all(); })) {
    slices = {};  // what every owner takes
  }
  // Each call has scratch of its own: Submit may gather all rows before it returns, and other
  // threads' batches do not wait for that.
  std::unique_ptr<TokensScratch> scratch;
  {
    MutexLock lock(scratch_mutex_);
    if (!scratch_.empty()) {
      scratch = std::move(scratch_.back());
      scratch_.pop_back();
    }
  }
  if (scratch == nullptr) scratch = std::make_unique<TokensScratch>();
  const bool by_tokens = GoByTokens(transport_->capabilities(), token_ids.size(), slices);
  absl::StatusOr<Ticket> ticket =
      by_tokens
          ? SendTokens(sequences, token_ids, dead, landings, deadline, slices, &scratch->parts)
          : SubmitAddressed(sequences, token_ids, dead, landings, deadline, slices, &scratch->plan);
  if (scratch->KeptBytes() > kMaxKeptBytes) return ticket;
  MutexLock lock(scratch_mutex_);
  scratch_.push_back(std::move(scratch));
  return ticket;
}

absl::StatusOr<Ticket> Client::SubmitAddressed(absl::Span<const SequenceTokens> sequences,
                                               absl::Span<const int32_t> token_ids,
                                               absl::Span<const uint8_t> dead,
                                               absl::Span<const Landing> landings,
                                               MonotonicTime deadline,
                                               absl::Span<const ColumnSlice> slices, Plan* plan) {
  absl::Status status = addresser_->AddressSequences(sequences, token_ids, dead,
                                                     MakeRoom(token_ids.size(), slices, plan));
  if (!status.ok()) return Refused(std::move(status));
  return SubmitLayers(plan, nullptr, landings, deadline);
}

// Sequences that are too long for the transport go in parts, each after its own window.
absl::StatusOr<Ticket> Client::SendTokens(
    absl::Span<const SequenceTokens> sequences, absl::Span<const int32_t> token_ids,
    absl::Span<const uint8_t> dead, absl::Span<const Landing> landings, MonotonicTime deadline,
    absl::Span<const ColumnSlice> slices, std::vector<SequenceTokens>* parts) {
  const uint32_t most = transport_->capabilities().max_sequence_tokens;
  parts->clear();
  size_t at = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    SequenceState state = sequences[i].state;
    for (uint32_t left = sequences[i].tokens; left > 0;) {
      const uint32_t part = std::min(left, most);
      parts->push_back({state, part});
      left -= part;
      if (left > 0) {
        absl::Status status = addresser_->Advance(
            token_ids.subspan(at, part), dead.empty() ? dead : dead.subspan(at, part), &state);
        if (!status.ok()) {
          return Refused(
              absl::Status(status.code(), absl::StrCat("sequence ", i, ": ", status.message())));
        }
      }
      at += part;
    }
  }
  const TokenBatch tokens{*parts, token_ids, dead, slices, allow_unmasked_images_};
  return SubmitLayers(nullptr, &tokens, landings, deadline);
}

absl::StatusOr<Ticket> Client::Submit(const BatchRequest& batch) {
  absl::StatusOr<Ticket> ticket = transport_->Submit(batch);
  if (!ticket.ok()) return Refused(ticket.status());
  uint64_t rows = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < batch.layers.size(); ++i) {
    const LayerRequest& request = batch.layers[i];
    uint64_t layer_rows = request.row_ids.size();
    if (batch.tokens != nullptr) {
      const absl::Span<const ColumnSlice> slices = batch.tokens->slices;
      layer_rows = batch.tokens->token_ids.size() *
                   (slices.empty() ? addresser_->scheme().Columns() : slices[i].columns());
    }
    rows += layer_rows;
    for (const LayerTableSpec& layer : table_set().layers) {
      if (layer.layer == request.layer) bytes += layer_rows * layer.row_bytes;
    }
  }
  counters_.Submitted(rows, bytes);
  return ticket;
}

ClientMetrics Client::metrics() const {
  ClientMetrics metrics = counters_.Read();
  metrics.routing = transport_->routing();
  metrics.cluster = transport_->cluster();
  return metrics;
}

absl::Status Client::Wait(Ticket ticket) {
  const MonotonicTime begin = clock_.Now();
  absl::Status status = transport_->Wait(ticket);
  counters_.RecordLatency(clock_.Now() - begin);
  counters_.Waited(status.code());
  return status;
}

absl::Status Client::WaitLayer(Ticket ticket, size_t index) {
  const MonotonicTime begin = clock_.Now();
  absl::Status status = transport_->WaitLayer(ticket, index);
  counters_.RecordLatency(clock_.Now() - begin);
  return status;
}

absl::Status Client::Lookup(const BatchRequest& batch) {
  const absl::StatusOr<Ticket> ticket = Submit(batch);
  if (!ticket.ok()) return ticket.status();
  absl::Status status = Wait(*ticket);
  transport_->Reap(*ticket);
  return status;
}

}  // namespace engram
