// Rows to bf16 where a layer reads them: dequantised, un-permuted (each place shows the row that
// the dedup inverse names) and placed, in one pass over the bytes.
//
//   bf16         copied as it is
//   fp16, fp32   rounded once, to nearest even
//   fp8_e4m3     the exact product with the table's one scale, rounded once
//   fp8_e4m3_ue8m0_block32   value * 2^(scale byte - 127), rounded once; ScaleReading says what the
//                scale bytes 0 and 255 are. Subnormal results are kept, every NaN is kBf16Nan.
//
// Bit for bit the same on host and device (bf16_values.h). A Dequantizer is immutable and shared
// freely between threads; it outlives what it enqueued on a host stream. Nothing allocates after
// Create but an error's message. Cost on the host: dequantize_benchmark. On a GPU the kernel reads
// each row once a place and writes 16 bytes a thread; meant to run at memory speed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/device/device.h"
#include "gpu/kernels/dequantize_host.h"
#include "gpu/kernels/dequantize_loop.h"
#include "memstore/table/manifest.h"

namespace engram {

// Rows as they came and places as they are read. All of it is memory of the stream's device.
struct DequantizeBatch {
  const std::byte* rows = nullptr;  // [row_count] as the table holds them, back to back
  uint32_t row_count = 0;
  // [tokens * columns]: which of the rows each place shows; null: row_count is tokens * columns.
  const uint32_t* inverse = nullptr;
  uint32_t tokens = 0;
  uint32_t columns = 0;
  uint16_t* out = nullptr;    // bf16: [tokens][columns][dim]
  uint64_t token_stride = 0;  // values from a token to the next; 0: columns * dim
  // A word in pinned or device memory, set to 1 when an inverse is not below row_count (its place
  // is left as it was). Needed with an inverse.
  uint32_t* bad_rows = nullptr;
};

class Dequantizer {
 public:
  // INVALID_ARGUMENT names what the encoding lacks: an opaque one has no values.
  static absl::StatusOr<Dequantizer> Create(const RowEncoding& encoding,
                                            ScaleReading reading = ScaleReading::kFormat);

  uint32_t dim() const { return dim_; }
  uint32_t row_bytes() const { return row_bytes_; }       // as the table holds a row
  uint32_t placed_row_bytes() const { return 2 * dim_; }  // as a layer reads it

  // Enqueues it. INVALID_ARGUMENT: sizes that disagree, or a batch of more than kMaxPieces.
  absl::Status Enqueue(const DequantizeBatch& batch, Stream& stream) const;
  // The same at once, in the calling thread; all memory is the host's.
  absl::Status Run(const DequantizeBatch& batch) const;

  // Pieces of eight values in a batch: the kernel counts them in 32 bits.
  static constexpr uint64_t kMaxPieces = uint64_t{1} << 31;

 private:
  Dequantizer() = default;
  absl::StatusOr<DequantizeArguments> Arguments(const DequantizeBatch& batch) const;

  RowValues values_ = RowValues::kBf16;
  ScaleReading reading_ = ScaleReading::kFormat;
  uint32_t dim_ = 0;
  uint32_t row_bytes_ = 0;
  E4m3Table table_ = {};  // kE4m3 alone
  DequantizeRowsOnHost on_host_ = nullptr;
};

}  // namespace engram
