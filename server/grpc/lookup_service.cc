#include "server/grpc/lookup_service.h"

#include <memory>
#include <optional>

#include "memstore/table/manifest.h"
#include "memstore/table/side_files.h"
#include "proto/wire/features.h"
#include "server/base/limits.h"
#include "server/grpc/attach_rdma_call.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/holdings_call.h"
#include "server/grpc/stream_call.h"
#include "server/grpc/unary_call.h"
#include "server/grpc/unary_method_call.h"
#include "server/grpc/watch_call.h"
#include "server/table_sets/provenance_message.h"

namespace engram {

static_assert(kMaxImageTokenIds <= wire::kMostImageTokenIds);

namespace {

// Nothing where all of the set is held.
void AddHeld(const TableSet& set, v1::AttachResponse* response) {
  if (set.row_source().holds_all()) return;
  for (size_t i = 0; i < set.layers().size(); ++i) {
    v1::HeldLayer* held = response->add_held();
    held->set_layer(set.layers()[i].layer);
    for (const RowRange& range : set.row_source().held()[i].ranges) {
      v1::RowRange* rows = held->add_ranges();
      rows->set_first(range.first);
      rows->set_rows(range.rows);
    }
  }
}

}  // namespace

void LookupService::Accept(EventLoop& loop) {
  using DescribeCall = UnaryMethodCall<v1::DescribeRequest, v1::DescribeResponse>;
  using AttachCall = UnaryMethodCall<v1::AttachRequest, v1::AttachResponse>;
  Places* const places = &loop.context().unary_method_calls;
  DescribeCall::Accept(
      loop,
      std::make_shared<const DescribeCall::Method>(DescribeCall::Method{
          .service = this,
          .number = kDescribe,
          .answer = [this](const Caller& caller, const v1::DescribeRequest&,
                           v1::DescribeResponse* response) { return Describe(caller, response); },
          .places = places,
          .access = access_}));
  AttachCall::Accept(
      loop,
      std::make_shared<const AttachCall::Method>(AttachCall::Method{
          .service = this,
          .number = kAttach,
          .answer = [this](
                        const Caller& caller, const v1::AttachRequest& request,
                        v1::AttachResponse* response) { return Attach(caller, request, response); },
          .places = places,
          .access = access_,
          .on_refused =
              [refusals = loop.context().attach_refusals](const grpc::ServerContextBase& context,
                                                          const v1::AttachRequest& request,
                                                          const grpc::Status& status) {
                const absl::Status refused(static_cast<absl::StatusCode>(status.error_code()),
                                           status.error_message());
                refusals->Add(AttachPath::kGrpc, ReasonOf(refused, request.table_set()),
                              context.peer(), refused);
              }}));
  UnaryCall::Accept(loop, this);
  StreamCall::Accept(loop, this);
  AttachRdmaCall::Accept(loop, this, rdma_);
  WatchCall::Accept(loop, this);
  HoldingsCall::Accept(loop, this);
}

grpc::Status LookupService::Describe(const Caller& caller, v1::DescribeResponse* response) const {
  for (const std::shared_ptr<const TableSet>& set : registry_->List()) {
    if (!access_->MayHave(caller, set->name()).ok()) continue;
    v1::ServedTableSet* served = response->add_table_sets();
    served->set_id(set->id());
    served->set_name(set->name());
    if (const std::optional<Provenance>& source = set->side_files().provenance) {
      SetProvenance(*source, served->mutable_provenance());
    }
    for (const LoadedLayer& loaded : set->layers()) {
      v1::ServedLayer* layer = served->add_layers();
      layer->set_layer(loaded.layer);
      layer->set_rows(loaded.table.rows);
      layer->set_row_bytes(loaded.table.row_bytes);
      layer->set_columns(set->manifest().scheme.Columns());
      const LayerTableSpec* spec = set->manifest().FindLayer(loaded.layer);
      if (spec != nullptr) layer->set_encoding(EncodingName(spec->encoding));
    }
  }
  return grpc::Status::OK;
}

grpc::Status LookupService::Attach(const Caller& caller, const v1::AttachRequest& request,
                                   v1::AttachResponse* response) const {
  const absl::StatusOr<std::shared_ptr<const TableSet>> set = registry_->Resolve(
      request.table_set(), [&](absl::string_view name) { return access_->MayHave(caller, name); });
  if (!set.ok()) return ToGrpc(set.status());
  // The client's lease begins.
  if (absl::Status status = registry_->Acquire((*set)->id()).status(); !status.ok()) {
    return ToGrpc(status);
  }
  response->set_table_set_id((*set)->id());
  response->set_manifest((*set)->manifest().text);
  if (const std::shared_ptr<const TokenMap>& map = (*set)->addresser().token_map()) {
    response->set_token_map(map->bytes().data(), map->bytes().size());
  }
  for (const int32_t id : (*set)->addresser().image_token_ids()) {
    response->add_image_token_ids(id);
  }
  AddHeld(**set, response);
  v1::Limits* limits = response->mutable_limits();
  limits->set_max_batch_rows(max_batch_rows_);
  limits->set_max_request_bytes(kMaxRequestBytes);
  limits->set_max_unary_reply_bytes(kMaxUnaryReplyBytes);
  response->set_shm_socket(shm_socket_);
  for (const absl::string_view feature : wire::kKnownFeatures) {
    response->add_features(feature.data(), feature.size());
  }
  response->set_version(kEngramVersion);
  return grpc::Status::OK;
}

}  // namespace engram
