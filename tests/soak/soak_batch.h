// One batch of a soak at a time: rows, layers and landings drawn at random, and a look at every
// byte that came of it.
//
// Buffers are kept from batch to batch. Before a batch they are filled with kGuard, so that rows of
// the past prove nothing and a byte that was written outside of a landing (before it, behind it,
// between two groups) shows. Used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "client/transport/transport.h"
#include "tests/soak/draws.h"

namespace engram::soak {

inline constexpr std::byte kGuard{0xA5};

class SoakBatch {
 public:
  // Draws a batch of some layers in some order, with the rows of about `tokens` tokens each, at
  // most `most_rows` in all. INTERNAL when a buffer that was given back (GiveBack) was written to.
  absl::Status Draw(const Manifest& manifest, uint64_t tokens, uint64_t most_rows, Draws& draws);

  const std::vector<LayerRequest>& layers() const { return requests_; }
  uint64_t tokens() const { return tokens_; }
  uint64_t rows() const;

  // DATA_LOSS names the first row of the layer that stands at `index` that is not its own.
  absl::Status CheckRows(size_t index) const;
  // INTERNAL names the first byte outside of the landings that is not as it was.
  absl::Status CheckOutside() const;
  // The batch was reaped: from here to the next Draw nobody writes to the buffers, and Draw looks.
  void GiveBack();
  // INTERNAL when somebody has; OK when they are not given back.
  absl::Status CheckGivenBack() const;
  // Memory of large batches; kept, it would be that of the largest in each place.
  void Shrink(size_t most_bytes);

 private:
  struct Place {
    std::vector<RowId> ids;
    std::vector<std::byte> buffer;
    size_t used = 0;  // of the buffer, guards included
    uint32_t row_bytes = 0;
    size_t begin = 0;  // of the landing
    uint64_t group_rows = 0;
    uint64_t stride = 0;

    size_t RowAt(uint64_t row) const;
    // Where the bytes end that lie together from `row`, which begins a group, on.
    uint64_t GroupEnd(uint64_t row) const;
  };
  void DrawPlace(const LayerTableSpec& spec, uint64_t rows, Draws& draws, Place* place);

  uint64_t tokens_ = 0;
  std::vector<Place> places_;  // as many as the table set has layers; those of requests_ first
  std::vector<LayerRequest> requests_;
  bool given_back_ = false;
};

}  // namespace engram::soak
