#include "client/transport/batch_check.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace engram {
namespace {

absl::Status CheckLayer(const LayerRequest& request, const Manifest& manifest) {
  const LayerTableSpec* layer = manifest.FindLayer(request.layer);
  if (layer == nullptr) {
    std::string there;
    for (const LayerTableSpec& l : manifest.layers) absl::StrAppend(&there, " ", l.layer);
    return absl::InvalidArgumentError(
        absl::StrCat("it is not in table set ", manifest.name, ", which has layers", there));
  }
  if (request.row_ids.empty()) {
    return absl::InvalidArgumentError("no row ids: leave the layer out or ask for rows");
  }
  const Landing& landing = request.landing;
  if (landing.data == nullptr) {
    return absl::InvalidArgumentError("there is no landing buffer for it");
  }
  if (landing.group_rows > 0 &&
      landing.group_rows > landing.group_stride_bytes / layer->row_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a group of ", landing.group_rows, " rows of ", layer->row_bytes,
                     " bytes does not fit a stride of ", landing.group_stride_bytes, " bytes"));
  }
  return CheckRowIds<RowId>({.rows = layer->rows, .row_bytes = layer->row_bytes}, request.row_ids);
}

}  // namespace

absl::Status CheckBatch(const BatchRequest& batch, const Manifest& manifest,
                        uint64_t max_batch_rows) {
  if (batch.layers.empty()) {
    return absl::InvalidArgumentError("the batch is empty: ask for at least one row");
  }
  uint64_t rows = 0;
  for (size_t i = 0; i < batch.layers.size(); ++i) {
    const LayerRequest& request = batch.layers[i];
    for (size_t j = 0; j < i; ++j) {
      if (batch.layers[j].layer == request.layer) {
        return absl::InvalidArgumentError(
            absl::StrCat("layer ", request.layer, " is named twice: merge its row ids"));
      }
    }
    if (absl::Status status = CheckLayer(request, manifest); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("layer ", request.layer, ": ", status.message()));
    }
    rows += request.row_ids.size();
  }
  if (rows > max_batch_rows) {
    return absl::InvalidArgumentError(absl::StrCat("the batch has ", rows, " rows, more than the ",
                                                   max_batch_rows, " allowed: split it"));
  }
  if (batch.deadline <= absl::Now()) {
    return absl::DeadlineExceededError("the deadline had passed before the batch was submitted");
  }
  return absl::OkStatus();
}

}  // namespace engram
