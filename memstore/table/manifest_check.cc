#include "memstore/table/manifest_check.h"

#include <cmath>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

constexpr size_t kSha256HexDigits = 64;

template <typename... Args>
absl::Status Refuse(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

absl::Status CheckSha256(absl::string_view digest, absl::string_view what) {
  bool good = digest.size() == kSha256HexDigits;
  for (const char c : digest) good = good && (absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'));
  if (good) return absl::OkStatus();
  return Refuse(what, " is not the 64 lower-case hexadecimal digits of a SHA-256");
}

// The files of the set, each named once.
class FileNames {
 public:
  FileNames() : names_({kManifestFile, kManifestDigestFile}) {}

  absl::Status Add(const std::string& name, absl::string_view field) {
    absl::Status plain = CheckPlainName(name, field);
    if (!plain.ok()) return plain;
    if (!names_.insert(name).second) {
      return Refuse(field, " is \"", name, "\", which names another file of the set already");
    }
    return absl::OkStatus();
  }

 private:
  absl::flat_hash_set<std::string> names_;
};

absl::Status CheckEncoding(const LayerTableSpec& layer) {
  if (layer.row_bytes < kMinRowBytes || layer.row_bytes > kMaxRowBytes) {
    return Refuse("row_bytes is ", layer.row_bytes, ", it must be ", kMinRowBytes, "..",
                  kMaxRowBytes);
  }
  const RowEncoding& encoding = layer.encoding;
  if (encoding.kind != RowEncodingKind::kOpaque) {
    if (encoding.dim == 0 || encoding.dim > kMaxRowBytes) {
      return Refuse("encoding.dim is ", encoding.dim, ", it must be 1..", kMaxRowBytes);
    }
    if (encoding.kind == RowEncodingKind::kFp8E4m3Ue8m0Block32 &&
        encoding.dim % kScaleBlockValues != 0) {
      return Refuse("encoding.dim is ", encoding.dim, ", it must be a multiple of ",
                    kScaleBlockValues, " for ", Name(encoding.kind));
    }
    if (EncodedRowBytes(encoding) != layer.row_bytes) {
      return Refuse("row_bytes is ", layer.row_bytes, ", but ", encoding.dim, " values as ",
                    Name(encoding.kind), " are ", EncodedRowBytes(encoding), " bytes");
    }
  }
  const bool scaled = encoding.kind == RowEncodingKind::kFp8E4m3 ||
                      (!encoding.label.empty() && encoding.global_scale != 0);
  if (scaled ? !(std::isfinite(encoding.global_scale) && encoding.global_scale > 0)
             : encoding.global_scale != 0) {
    return Refuse("encoding.global_scale is ", encoding.global_scale, ", it must be ",
                  scaled ? "positive and finite" : "absent", " for ", Name(encoding.kind));
  }
  if (encoding.label.empty()) return absl::OkStatus();
  if (encoding.kind != RowEncodingKind::kOpaque) {
    return Refuse("encoding.label is \"", QuoteForMessage(encoding.label),
                  "\", it must be absent for ", Name(encoding.kind), ", which says it all");
  }
  if (IsKindName(encoding.label)) {
    return Refuse("encoding.label is \"", encoding.label,
                  "\", it must be another name than those of the kinds, which ",
                  Name(encoding.kind), " rows are not");
  }
  return CheckPlainName(encoding.label, "encoding.label");
}

absl::Status CheckShard(const LayerTableSpec& layer, size_t index, uint64_t first_row,
                        FileNames& names) {
  const ShardSpec& shard = layer.shards[index];
  if (shard.first_row != first_row) {
    return Refuse("first_row is ", shard.first_row, ", the shards before it end at ", first_row);
  }
  if (shard.rows == 0 || shard.rows > layer.rows - first_row) {
    return Refuse("rows is ", shard.rows, ", of the layer's ", layer.rows, " rows ",
                  layer.rows - first_row, " are left");
  }
  if (index + 1 < layer.shards.size() && shard.rows % kShardRowMultiple != 0) {
    return Refuse("rows is ", shard.rows,
                  ", all shards but a layer's last must hold a multiple of ", kShardRowMultiple);
  }
  if (shard.block_rows == 0 ||
      static_cast<uint64_t>(shard.block_rows) * layer.row_bytes > kMaxBlockBytes ||
      shard.rows / shard.block_rows >= kMaxShardBlocks) {
    return Refuse("block_rows is ", shard.block_rows, ", a block must have at most ",
                  kMaxBlockBytes, " bytes, and a shard at most ", kMaxShardBlocks, " blocks");
  }
  const uint64_t file_bytes = ShardFileBytes(shard.rows, layer.row_bytes);
  if (shard.file_bytes != file_bytes) {
    return Refuse("file_bytes is ", shard.file_bytes, ", ", shard.rows, " rows of ",
                  layer.row_bytes, " bytes make a file of ", file_bytes);
  }
  absl::Status status = names.Add(shard.file, "file");
  if (status.ok()) status = names.Add(shard.checksum_file, "checksum_file");
  if (status.ok()) status = CheckSha256(shard.checksum_file_sha256, "checksum_file_sha256");
  return status;
}

absl::Status CheckLayer(const LayerTableSpec& layer, const LayerAddressing& addressing,
                        FileNames& names) {
  absl::Status status = CheckEncoding(layer);
  if (!status.ok()) return status;
  // The scheme is valid: its rows are 1..kMaxLayerRows.
  if (layer.rows != addressing.Rows()) {
    return Refuse("rows is ", layer.rows, ", the address scheme has ", addressing.Rows());
  }
  uint64_t first_row = 0;
  for (size_t i = 0; i < layer.shards.size(); ++i) {
    status = CheckShard(layer, i, first_row, names);
    if (!status.ok()) return Refuse("shards[", i, "]: ", status.message());
    first_row += layer.shards[i].rows;
  }
  if (first_row != layer.rows) {
    return Refuse("the shards hold ", first_row, " of its ", layer.rows, " rows");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckManifest(const Manifest& manifest) {
  const AddressScheme& scheme = manifest.scheme;
  absl::Status status = CheckPlainName(manifest.name, "name");
  if (status.ok()) status = CheckPlainName(scheme.family, "address_scheme: family");
  if (!status.ok()) return status;
  status = Validate(scheme);
  if (!status.ok()) {
    // By its field's name, once.
    return Refuse("address_scheme: ", absl::StripPrefix(status.message(), "address scheme: "));
  }
  FileNames names;
  if (scheme.token_map) {
    status = names.Add(scheme.token_map->file, "token_map.file");
    if (status.ok()) status = CheckSha256(scheme.token_map->sha256, "token_map.sha256");
    if (!status.ok()) return Refuse("address_scheme: ", status.message());
  }
  if (manifest.layers.empty() || manifest.layers.size() != scheme.layers.size()) {
    return Refuse("there are ", manifest.layers.size(), " layers, the address scheme has ",
                  scheme.layers.size(), "; it must be the same, and at least one");
  }
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    if (layer.layer != scheme.layers[i].layer) {
      return Refuse("layers[", i, "] is layer ", layer.layer, ", in the address scheme it is ",
                    scheme.layers[i].layer, "; both must be ascending");
    }
    status = CheckLayer(layer, scheme.layers[i], names);
    if (!status.ok()) return Refuse("layer ", layer.layer, ": ", status.message());
  }
  return absl::OkStatus();
}

}  // namespace engram
