// The tokens of a batch as they travel over gRPC: whole sequences, each behind its window.
//
// Thread-compatible. Used again from batch to batch it allocates nothing once it has seen the
// largest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "client/transport/transport.h"
#include "memstore/addressing/scheme.h"
#include "proto/wire/lookup_messages.h"

namespace engram {

class GrpcTokens {
 public:
  // Sequences that follow each other, and their tokens.
  struct Part {
    size_t first_sequence = 0;
    size_t sequences = 0;
    uint64_t first_token = 0;
    uint64_t tokens = 0;
  };

  // Tokens of one sequence, so that a message of so many bytes has room for them, kMostTokens at
  // most; 0: there is none.
  static uint32_t MaxSequenceTokens(uint64_t message_bytes, size_t layers, uint32_t lookback);
  // A prefill chunk's; longer sequences go in parts, each addressed by itself.
  static constexpr uint32_t kMostTokens = 1 << 14;

  // None.
  void Clear();
  // Those of a batch that was checked. Layers of which no column is wanted do not travel.
  void Fill(const BatchRequest& request, const AddressScheme& scheme);
  bool empty() const { return token_ids_.empty(); }
  uint64_t tokens() const { return token_ids_.size(); }

  // What follows `before` and fits into a message of so many bytes; no tokens: that was all.
  Part Next(const Part& before, uint64_t message_bytes) const;
  // Refers to this.
  wire::RequestTokens On(const Part& part) const;
  bool allows_unmasked_images() const { return allow_unmasked_images_; }
  uint64_t KeptBytes() const;

 private:
  uint32_t lookback_ = 0;
  std::vector<uint32_t> sequence_tokens_;
  std::vector<int32_t> windows_;  // [sequences, lookback]
  std::vector<int32_t> token_ids_;
  std::vector<uint8_t> dead_;
  std::vector<uint32_t> layers_;
  std::vector<wire::LookupRequest::Run> runs_;  // layer after layer, where there are slices
  std::vector<uint32_t> runs_of_layer_;
  bool allow_unmasked_images_ = false;
};

}  // namespace engram
