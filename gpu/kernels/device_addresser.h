// From token ids on a device to row ids on the device, all layers of a ragged batch in one launch;
// and sequences' lookback kept there, so that a step's addresses need nothing of the host.
//
//   engram::AddressTokens batch{...};                                // device memory
//   addresser->EnqueueAddress(batch, rows, error, stream);           // drafts too: nothing commits
//   ... prefetch `rows`, run the step, verify the drafts on the device ...
//   addresser->EnqueueAdvance(batch, accepted, lookback, error, stream);
//   ... where the host reads the sampled tokens, it reads *error: addresser->StatusOf(word)
//
// Row ids are bit for bit those of the CPU's Addresser for the same scheme. A batch that is bad -
// an id out of the vocabulary, an image's that is not dead (Addresser::image_token_ids), starts
// that do not ascend, a lookback that the scheme does not have - leaves a word that is not 0 in
// `error`; a token whose window holds what is bad gets kNoRow, which no table has. A step whose
// word is not 0 must not be committed.
//
// Speed, by design (address_loop.h): a token costs one binary search over the starts, `order` reads
// of an id and of the token map, which lie in the caches, and columns * layers stores of eight
// bytes, in order; the modulo is one high product, two low ones and a correction. The bar is twice
// the time that reading ids and writing row ids takes at memory speed.
//
// A DeviceAddresser is immutable after Create and shared between threads; the device outlives it,
// and it what it enqueued. Nothing allocates after Create but an error's message.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/device/device.h"
#include "gpu/kernels/address_loop.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"

namespace engram {

struct DeviceAddresserOptions {
  uint32_t max_tokens = 0;            // of a batch
  uint32_t max_sequences = 0;         // of a batch
  std::vector<uint32_t> layers = {};  // the model's numbers, ascending; empty: all the scheme has
  // One a layer, in their order; empty: all columns of each.
  std::vector<ColumnSlice> slices = {};
};

class DeviceAddresser {
 public:
  // Copies the scheme's constants and token map to the device. INVALID_ARGUMENT: a layer that the
  // scheme does not have, slices that are not its layers', or no room for a batch;
  // RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<DeviceAddresser>> Create(
      const std::shared_ptr<const Addresser>& addresser, Device& device,
      const DeviceAddresserOptions& options);

  const AddressScheme& scheme() const { return addresser_->scheme(); }
  uint32_t lookback() const { return tables_.order - 1; }
  const AddressTables& tables() const { return tables_; }
  // Row ids of a batch: tokens * columns, of all layers.
  uint64_t RowIds(uint32_t tokens) const { return uint64_t{tokens} * all_columns_; }

  // Writes rows[layers][tokens][the layer's slice's columns], in the options' order. `error`: a
  // word of device memory that was 0. INVALID_ARGUMENT: a batch larger than the options', memory
  // that is missing, a dead mask for a scheme without dead positions. What the ids are is seen on
  // the device.
  absl::Status EnqueueAddress(const AddressTokens& batch, RowId* rows, uint64_t* error,
                              Stream& stream) const;
  // Commits the first accepted[s] tokens of each sequence (null: all of them) to `lookback`, which
  // may be the batch's own. A bad sequence's lookback is left as it was.
  absl::Status EnqueueAdvance(const AddressTokens& batch, const uint32_t* accepted,
                              uint32_t* lookback, uint64_t* error, Stream& stream) const;

  // What a word says; OK for 0. INVALID_ARGUMENT names the first bad position of the batch.
  absl::Status StatusOf(uint64_t error) const;
  // A sequence's state as `lookback()` words for AddressTokens::lookback. Errors of
  // Addresser::CheckState, with which nothing is written: FAILED_PRECONDITION for a state of
  // another table set, of which the words say nothing any more.
  absl::Status WriteLookback(const SequenceState& state, uint32_t* words) const;

 private:
  DeviceAddresser() = default;
  absl::Status Check(const AddressTokens& batch) const;

  std::shared_ptr<const Addresser> addresser_;
  DeviceAddresserOptions options_;
  uint32_t multiprocessors_ = 0;
  DeviceBuffer memory_;
  AddressTables tables_;
  uint32_t all_columns_ = 0;
};

}  // namespace engram
