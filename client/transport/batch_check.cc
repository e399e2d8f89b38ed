#include "client/transport/batch_check.h"

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

absl::Status CheckLayer(const LayerRequest& request, const Manifest& manifest, bool by_tokens) {
  const LayerTableSpec* layer = manifest.FindLayer(request.layer);
  if (layer == nullptr) {
    std::string there;
    for (const LayerTableSpec& l : manifest.layers) absl::StrAppend(&there, " ", l.layer);
    return absl::InvalidArgumentError(
        absl::StrCat("it is not in table set ", manifest.name, ", which has layers", there));
  }
  if (by_tokens != request.row_ids.empty()) {
    if (by_tokens) {
      return absl::InvalidArgumentError("row ids in a batch by token ids: give one of the two");
    }
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
  if (by_tokens) {
    const uint32_t columns = manifest.scheme.Columns();
    if (landing.group_rows == 0 || landing.group_rows == columns) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("groups of ", landing.group_rows,
                                                   " rows in a batch by token ids: a token's ",
                                                   columns, " rows land together"));
  }
  return CheckRowIds<RowId>({.rows = layer->rows, .row_bytes = layer->row_bytes}, request.row_ids);
}

absl::Status CheckTokens(const TokenRows& tokens, uint32_t max_sequence_tokens) {
  if (max_sequence_tokens == 0) {
    return absl::UnimplementedError(
        "this transport takes row ids: Client::SubmitTokens works them out where it is so");
  }
  uint64_t count = 0;
  for (size_t i = 0; i < tokens.sequences.size(); ++i) {
    const uint32_t length = tokens.sequences[i].tokens;
    if (length < 1 || length > max_sequence_tokens) {
      return absl::InvalidArgumentError(absl::StrCat("sequence ", i, " has ", length,
                                                     " tokens: 1 to ", max_sequence_tokens,
                                                     " at once, longer ones in parts"));
    }
    count += length;
  }
  if (count != tokens.token_ids.size() ||
      (!tokens.dead.empty() && tokens.dead.size() != tokens.token_ids.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequences have ", count, " tokens, and there are ",
                     tokens.token_ids.size(), " token ids and ", tokens.dead.size(),
                     " bytes of dead mask: one of each for each token, or no mask"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBatch(const BatchRequest& batch, const Manifest& manifest,
                        uint64_t max_batch_rows, uint32_t max_sequence_tokens, const Clock& clock) {
  if (batch.layers.empty()) {
    return absl::InvalidArgumentError("the batch is empty: ask for at least one row");
  }
  const bool by_tokens = batch.tokens != nullptr;
  if (by_tokens) {
    absl::Status status = CheckTokens(*batch.tokens, max_sequence_tokens);
    if (!status.ok()) return status;
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
    if (absl::Status status = CheckLayer(request, manifest, by_tokens); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("layer ", request.layer, ": ", status.message()));
    }
    rows += by_tokens ? batch.tokens->token_ids.size() * manifest.scheme.Columns()
                      : request.row_ids.size();
  }
  if (rows > max_batch_rows) {
    return absl::InvalidArgumentError(absl::StrCat("the batch has ", rows, " rows, more than the ",
                                                   max_batch_rows, " allowed: split it"));
  }
  if (!batch.deadline.is_infinite() && batch.deadline <= clock.Now()) {
    return absl::DeadlineExceededError("the deadline had passed before the batch was submitted");
  }
  return absl::OkStatus();
}

}  // namespace engram
