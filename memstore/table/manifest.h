// A table set's manifest as plain values, and its reading and writing. The only place in memstore
// where a protobuf type is used is manifest.cc.
//
// A table set is a directory: manifest.textproto, manifest.sha256 (over its raw bytes: the set's
// id), the token map where there is one, the shards and their checksum files, side files
// (side_files.h), nothing else.
// proto/FORMATS.md is the format's page; proto/engram/v1/table.proto its schema.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/scheme.h"

namespace engram {

inline constexpr char kManifestFile[] = "manifest.textproto";
inline constexpr char kManifestDigestFile[] = "manifest.sha256";

// A row must hold at least one word and fit a page, so that a gather stays a few cache lines a row.
inline constexpr uint32_t kMinRowBytes = 8;
inline constexpr uint32_t kMaxRowBytes = 4096;
// Values that share one scale byte in kFp8E4m3Ue8m0Block32; divides its dim.
inline constexpr uint32_t kScaleBlockValues = 32;
// A manifest is read whole before anything of it is known to be true: bounds that read.
inline constexpr uint64_t kMaxManifestBytes = 16u << 20;

enum class RowEncodingKind { kOpaque, kBf16, kFp16, kFp32, kFp8E4m3, kFp8E4m3Ue8m0Block32 };

// Described for the client, never interpreted by the store.
struct RowEncoding {
  RowEncodingKind kind = RowEncodingKind::kOpaque;
  uint32_t dim = 0;           // values in a row
  float global_scale = 0.0f;  // kFp8E4m3; kOpaque with a label, where the table has one; else 0
  std::string label = {};     // kOpaque alone: what the rows are, in a plain name; empty: not said
};
// Bytes of a row so encoded; 0 for kOpaque.
uint32_t EncodedRowBytes(const RowEncoding& encoding);
absl::string_view Name(RowEncodingKind kind);  // "bf16", "fp8_e4m3_ue8m0_block32", ...
// Whether a kind has this name, so that no label may be it.
bool IsKindName(absl::string_view name);
// What people read: the label where there is one, else the kind's name.
std::string EncodingName(const RowEncoding& encoding);

struct ShardSpec {
  std::string file;
  std::string checksum_file;
  uint64_t first_row = 0;
  uint64_t rows = 0;
  uint32_t block_rows = 0;
  uint64_t file_bytes = 0;
  std::string checksum_file_sha256;
};

struct LayerTableSpec {
  uint32_t layer = 0;
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
  RowEncoding encoding;
  std::vector<ShardSpec> shards;
  bool synthetic = false;
};

struct Manifest {
  std::string id;  // lower-case hexadecimal SHA-256 of `text`
  std::string name;
  AddressScheme scheme;
  std::vector<LayerTableSpec> layers;  // ascending, those of the scheme
  std::string text;                    // the raw bytes, for passing on

  const LayerTableSpec* FindLayer(uint32_t layer) const;
  uint64_t TableBytes() const;  // rows * row_bytes over all layers
};

// Parses and validates everything that the manifest says of itself (not the files it names).
// INVALID_ARGUMENT names `source` and the field. File names must be plain names.
absl::StatusOr<Manifest> ParseManifest(absl::string_view text, absl::string_view source);

// ParseManifest over DIR/manifest.textproto after its digest matched DIR/manifest.sha256.
// NOT_FOUND: no such directory or no manifest in it. DATA_LOSS: the digest differs.
absl::StatusOr<Manifest> LoadManifest(const std::string& directory);

// Text of the manifest and the same manifest with text and id filled in. Validates.
absl::StatusOr<Manifest> FinishManifest(Manifest manifest);

}  // namespace engram
