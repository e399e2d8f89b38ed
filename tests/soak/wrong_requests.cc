#include "tests/soak/wrong_requests.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/rpc/grpc_time.h"
#include "tests/soak/soak_batch.h"

namespace engram::soak {
namespace {

uint32_t UnknownLayer(const Manifest& manifest) {
  uint32_t layer = 0;
  while (manifest.FindLayer(layer) != nullptr) ++layer;
  return layer;
}

}  // namespace

absl::Status AskClientWrongly(Client& client, Draws& draws) {
  const LayerTableSpec& spec = client.table_set().layers.front();
  const uint32_t unknown = UnknownLayer(client.table_set());
  std::vector<std::byte> landing(size_t{4} * spec.row_bytes, kGuard);
  const std::vector<RowId> good = {0, spec.rows - 1}, beyond = {0, spec.rows},
                           far = {~RowId{0} - draws.Below(spec.rows)}, none;
  const Landing there = {.data = landing.data()};
  const LayerRequest fine = {.layer = spec.layer, .row_ids = good, .landing = there};
  const std::vector<std::vector<LayerRequest>> requests = {
      {{.layer = spec.layer, .row_ids = beyond, .landing = there}},
      {{.layer = spec.layer, .row_ids = far, .landing = there}},
      {{.layer = unknown, .row_ids = good, .landing = there}},
      {fine, {.layer = unknown, .row_ids = good, .landing = there}},
      {fine, fine},
      {{.layer = spec.layer, .row_ids = none, .landing = there}},
      {}};
  const absl::Status status = client.Lookup({.layers = requests[draws.Below(requests.size())]});
  if (status.code() != absl::StatusCode::kInvalidArgument) {
    return absl::InternalError(
        absl::StrCat("a wrong request was not INVALID_ARGUMENT but ", status.ToString()));
  }
  if (std::any_of(landing.begin(), landing.end(), [](std::byte b) { return b != kGuard; })) {
    return absl::InternalError("a wrong request wrote to its landing");
  }
  return absl::OkStatus();
}

WrongRequests::WrongRequests(const std::string& address)
    : stub_(v1::Lookup::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
}

absl::Status WrongRequests::Ask(const Manifest& manifest, absl::Duration timeout, Draws& draws) {
  const LayerTableSpec& spec = manifest.layers.front();
  v1::LookupRequest request;
  request.set_table_set_id(manifest.id);
  v1::LayerRowIds* const layer = request.add_layers();
  layer->set_layer(spec.layer);
  layer->add_row_ids32(0);
  switch (draws.Below(4)) {
    case 0:
      layer->add_row_ids32(static_cast<uint32_t>(spec.rows));
      break;
    case 1:
      layer->clear_row_ids32();
      layer->add_row_ids64(~uint64_t{0} - draws.Below(spec.rows));
      break;
    case 2:
      layer->set_layer(UnknownLayer(manifest));
      break;
    default:
      request.clear_layers();
  }
  grpc::ClientContext context;
  context.set_deadline(rpc::After(absl::ToChronoNanoseconds(timeout)));
  context.set_wait_for_ready(true);
  v1::LookupResponse response;
  const grpc::Status status = stub_->Lookup(&context, request, &response);
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

}  // namespace engram::soak
