#include "server/lookup_service.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/grpc_status.h"
#include "server/limits.h"

namespace engram {
namespace {

template <typename T>
absl::Span<const T> SpanOf(const google::protobuf::RepeatedField<T>& field) {
  return {field.data(), static_cast<size_t>(field.size())};
}

absl::Status CheckDeadline(std::chrono::system_clock::time_point deadline) {
  if (std::chrono::system_clock::now() < deadline) return absl::OkStatus();
  return absl::DeadlineExceededError("the deadline passed before the reply was whole");
}

}  // namespace

grpc::Status LookupService::Describe(grpc::ServerContext*, const v1::DescribeRequest*,
                                     v1::DescribeResponse* response) {
  for (const std::shared_ptr<const TableSet>& set : store_->List()) {
    v1::ServedTableSet* served = response->add_table_sets();
    served->set_id(set->id());
    served->set_name(set->name());
    for (const LoadedLayer& loaded : set->layers()) {
      v1::ServedLayer* layer = served->add_layers();
      layer->set_layer(loaded.layer);
      layer->set_rows(loaded.table.rows);
      layer->set_row_bytes(loaded.table.row_bytes);
      layer->set_columns(set->manifest().scheme.Columns());
    }
  }
  return grpc::Status::OK;
}

grpc::Status LookupService::Attach(grpc::ServerContext*, const v1::AttachRequest* request,
                                   v1::AttachResponse* response) {
  const absl::StatusOr<std::shared_ptr<const TableSet>> set = store_->Resolve(request->table_set());
  if (!set.ok()) return ToGrpc(set.status());
  response->set_table_set_id((*set)->id());
  response->set_manifest((*set)->manifest().text);
  if (const std::shared_ptr<const TokenMap>& map = (*set)->addresser().token_map()) {
    response->set_token_map(map->bytes().data(), map->bytes().size());
  }
  v1::Limits* limits = response->mutable_limits();
  limits->set_max_batch_rows(limits_.max_batch_rows);
  limits->set_max_request_bytes(kMaxRequestBytes);
  limits->set_max_unary_reply_bytes(limits_.max_reply_bytes);
  return grpc::Status::OK;
}

grpc::Status LookupService::Lookup(grpc::ServerContext* context, const v1::LookupRequest* request,
                                   v1::LookupResponse* response) {
  const absl::Status status = Answer(*request, context->deadline(), response);
  // A reply that was begun does not travel with an error.
  if (!status.ok()) response->Clear();
  return ToGrpc(status);
}

absl::Status LookupService::Answer(const v1::LookupRequest& request,
                                   std::chrono::system_clock::time_point deadline,
                                   v1::LookupResponse* response) {
  const absl::StatusOr<PreparedLookup> lookup = Prepare(request);
  if (!lookup.ok()) return lookup.status();
  const absl::StatusOr<Admission::Permit> permit = admission_.Enter(lookup->RowsBytes(), deadline);
  if (!permit.ok()) return permit.status();

  response->set_table_set_id(lookup->set().id());
  response->set_batch_id(request.batch_id());
  for (size_t i = 0; i < lookup->layers(); ++i) {
    if (absl::Status status = CheckDeadline(deadline); !status.ok()) return status;
    v1::LayerRowData* layer = response->add_layers();
    layer->set_layer(lookup->layer(i));
    std::string* rows = layer->mutable_rows();
    rows->resize(lookup->LayerBytes(i));
    lookup->Gather(i, *team_, reinterpret_cast<std::byte*>(rows->data()));
  }
  return CheckDeadline(deadline);
}

absl::StatusOr<PreparedLookup> LookupService::Prepare(const v1::LookupRequest& request) const {
  if (request.table_set_id().empty()) {
    return absl::InvalidArgumentError(
        "table_set_id is empty: name the table set by the id that Attach or Describe gave");
  }
  absl::StatusOr<std::shared_ptr<const TableSet>> set = store_->Acquire(request.table_set_id());
  if (!set.ok()) return set.status();
  if (!request.has_tokens()) {
    // Before anything is allocated for them: a small message can name millions.
    if (static_cast<size_t>(request.layers_size()) > (*set)->layers().size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the request names ", request.layers_size(), " layers, the table set has ",
                       (*set)->layers().size(), ": name each at most once"));
    }
    std::vector<WantedRows> wanted;
    wanted.reserve(request.layers_size());
    for (const v1::LayerRowIds& layer : request.layers()) {
      wanted.push_back({.layer = layer.layer(),
                        .ids32 = SpanOf(layer.row_ids32()),
                        .ids64 = SpanOf(layer.row_ids64())});
    }
    return PreparedLookup::OfRows(*std::move(set), wanted, limits_);
  }
  if (request.layers_size() > 0) {
    return absl::InvalidArgumentError(
        "both layers (row ids) and tokens are given: a batch is by one of them");
  }
  const v1::TokenBatch& tokens = request.tokens();
  const std::string& dead = tokens.dead_mask();
  return PreparedLookup::OfTokens(
      *std::move(set),
      {.layers = SpanOf(tokens.layers()),
       .token_ids = SpanOf(tokens.token_ids()),
       .dead = {reinterpret_cast<const uint8_t*>(dead.data()), dead.size()},
       .sequence_tokens = SpanOf(tokens.sequence_tokens()),
       .sequence_lookback = SpanOf(tokens.sequence_lookback())},
      limits_);
}

}  // namespace engram
