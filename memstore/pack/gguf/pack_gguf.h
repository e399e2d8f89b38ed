// Packs the table of a GGUF file, or of a model's GGUF files, into a table set: rows as they are.
//
// Streams as PackCheckpoint does. Rows of plain values (F32, F16, BF16) and those of V4.1's kind
// (256 E4M3 bytes and 8 scale bytes) have the encoding that other checkpoints' have, and so the
// same id; quantised ones are opaque, with a label as in "gguf_q8_0".
#pragma once

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/pack_options.h"
#include "memstore/table/manifest.h"

namespace engram {

// `options.gguf_file` is the file; `options.rows` are the tensors' names, where they are not those
// that converters give. Errors: those of GgufModel::Open, ReadGgufScheme, LayOutNamedRows and
// TableSetWriter.
absl::StatusOr<Manifest> PackGguf(const Family& family, const PackOptions& options);

}  // namespace engram
