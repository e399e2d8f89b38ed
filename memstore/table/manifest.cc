#include "memstore/table/manifest.h"

#include <google/protobuf/text_format.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"
#include "memstore/base/text_format.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/manifest_check.h"
#include "proto/engram/v1/table.pb.h"

namespace engram {
namespace {

constexpr uint32_t kFormatVersion = 1;
// 64 digits and a newline.
constexpr uint64_t kDigestFileBytes = 65;

RowEncodingKind FromProto(v1::RowEncoding::Kind kind) {
  switch (kind) {
    case v1::RowEncoding::BF16:
      return RowEncodingKind::kBf16;
    case v1::RowEncoding::FP16:
      return RowEncodingKind::kFp16;
    case v1::RowEncoding::FP32:
      return RowEncodingKind::kFp32;
    case v1::RowEncoding::FP8_E4M3:
      return RowEncodingKind::kFp8E4m3;
    case v1::RowEncoding::FP8_E4M3_UE8M0_BLOCK32:
      return RowEncodingKind::kFp8E4m3Ue8m0Block32;
    default:
      return RowEncodingKind::kOpaque;
  }
}

v1::RowEncoding::Kind ToProto(RowEncodingKind kind) {
  switch (kind) {
    case RowEncodingKind::kOpaque:
      return v1::RowEncoding::OPAQUE;
    case RowEncodingKind::kBf16:
      return v1::RowEncoding::BF16;
    case RowEncodingKind::kFp16:
      return v1::RowEncoding::FP16;
    case RowEncodingKind::kFp32:
      return v1::RowEncoding::FP32;
    case RowEncodingKind::kFp8E4m3:
      return v1::RowEncoding::FP8_E4M3;
    case RowEncodingKind::kFp8E4m3Ue8m0Block32:
      return v1::RowEncoding::FP8_E4M3_UE8M0_BLOCK32;
  }
  return v1::RowEncoding::KIND_UNSPECIFIED;
}

AddressScheme FromProto(const v1::AddressScheme& from) {
  AddressScheme scheme;
  scheme.family = from.family();
  scheme.combine = from.combine() == v1::AddressScheme::POLYNOMIAL ? Combine::kPolynomial
                                                                   : Combine::kXorOfProducts;
  scheme.max_order = from.max_order();
  scheme.heads_per_order = from.heads_per_order();
  scheme.vocab_size = from.vocab_size();
  if (from.has_token_map()) {
    scheme.token_map = TokenMapReference{from.token_map().file(), from.token_map().sha256(),
                                         from.token_map().compressed_vocab_size()};
  }
  scheme.pad_id = from.pad_id();
  if (from.has_reset_token_id()) scheme.reset_token_id = from.reset_token_id();
  scheme.dead_positions = from.dead_positions();
  scheme.radix = from.radix();
  for (const v1::LayerAddressing& layer : from.layers()) {
    scheme.layers.push_back({layer.layer(),
                             {layer.multipliers().begin(), layer.multipliers().end()},
                             {layer.moduli().begin(), layer.moduli().end()},
                             {layer.offsets().begin(), layer.offsets().end()}});
  }
  return scheme;
}

void ToProto(const AddressScheme& scheme, v1::AddressScheme* to) {
  to->set_family(scheme.family);
  to->set_combine(scheme.combine == Combine::kPolynomial ? v1::AddressScheme::POLYNOMIAL
                                                         : v1::AddressScheme::XOR_OF_PRODUCTS);
  to->set_max_order(scheme.max_order);
  to->set_heads_per_order(scheme.heads_per_order);
  to->set_vocab_size(scheme.vocab_size);
  if (scheme.token_map) {
    to->mutable_token_map()->set_file(scheme.token_map->file);
    to->mutable_token_map()->set_sha256(scheme.token_map->sha256);
    to->mutable_token_map()->set_compressed_vocab_size(scheme.token_map->compressed_vocab_size);
  }
  to->set_pad_id(scheme.pad_id);
  if (scheme.reset_token_id) to->set_reset_token_id(*scheme.reset_token_id);
  to->set_dead_positions(scheme.dead_positions);
  to->set_radix(scheme.radix);
  for (const LayerAddressing& layer : scheme.layers) {
    v1::LayerAddressing* out = to->add_layers();
    out->set_layer(layer.layer);
    out->mutable_multipliers()->Add(layer.multipliers.begin(), layer.multipliers.end());
    out->mutable_moduli()->Add(layer.moduli.begin(), layer.moduli.end());
    out->mutable_offsets()->Add(layer.offsets.begin(), layer.offsets.end());
  }
}

LayerTableSpec FromProto(const v1::LayerTable& from) {
  LayerTableSpec layer;
  layer.layer = from.layer();
  layer.rows = from.rows();
  layer.row_bytes = from.row_bytes();
  layer.encoding = {FromProto(from.encoding().kind()), from.encoding().dim(),
                    from.encoding().global_scale(), from.encoding().label()};
  for (const v1::Shard& shard : from.shards()) {
    layer.shards.push_back({shard.file(), shard.checksum_file(), shard.first_row(), shard.rows(),
                            shard.block_rows(), shard.file_bytes(), shard.checksum_file_sha256()});
  }
  layer.synthetic = from.synthetic();
  return layer;
}

void ToProto(const LayerTableSpec& layer, v1::LayerTable* to) {
  to->set_layer(layer.layer);
  to->set_rows(layer.rows);
  to->set_row_bytes(layer.row_bytes);
  to->mutable_encoding()->set_kind(ToProto(layer.encoding.kind));
  to->mutable_encoding()->set_dim(layer.encoding.dim);
  to->mutable_encoding()->set_global_scale(layer.encoding.global_scale);
  to->mutable_encoding()->set_label(layer.encoding.label);
  for (const ShardSpec& shard : layer.shards) {
    v1::Shard* out = to->add_shards();
    out->set_file(shard.file);
    out->set_checksum_file(shard.checksum_file);
    out->set_first_row(shard.first_row);
    out->set_rows(shard.rows);
    out->set_block_rows(shard.block_rows);
    out->set_file_bytes(shard.file_bytes);
    out->set_checksum_file_sha256(shard.checksum_file_sha256);
  }
  to->set_synthetic(layer.synthetic);
}

// What plain values can't say any more: fields that only the message shows to be unset or unknown.
absl::Status CheckMessage(const v1::Manifest& message) {
  if (message.format_version() != kFormatVersion) {
    return absl::InvalidArgumentError(absl::StrCat("format_version is ", message.format_version(),
                                                   ", this program reads ", kFormatVersion));
  }
  const auto combine = message.address_scheme().combine();
  if (combine != v1::AddressScheme::XOR_OF_PRODUCTS && combine != v1::AddressScheme::POLYNOMIAL) {
    return absl::InvalidArgumentError(absl::StrCat("address_scheme.combine is ", combine,
                                                   ", it must be XOR_OF_PRODUCTS or POLYNOMIAL"));
  }
  for (const v1::LayerTable& layer : message.layers()) {
    const auto kind = layer.encoding().kind();
    if (kind == v1::RowEncoding::KIND_UNSPECIFIED || !v1::RowEncoding::Kind_IsValid(kind)) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layer.layer(), ": encoding.kind is ",
                                                     kind, ", which this program does not know"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Manifest> ParseText(absl::string_view text) {
  if (text.size() > kMaxManifestBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has ", text.size(), " bytes, at most ", kMaxManifestBytes, " are read"));
  }
  v1::Manifest message;
  absl::Status status = ParseTextFormat(text, &message);
  if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("line ", status.message()));
  status = CheckMessage(message);
  if (!status.ok()) return status;
  return message;
}

absl::Status WithSource(absl::string_view source, const absl::Status& status) {
  return {status.code(), absl::StrCat(source, ": ", status.message())};
}

absl::Status NoTableSet(const std::string& directory, absl::string_view why) {
  return absl::NotFoundError(
      absl::StrCat("there is no table set at ", directory, ": ", why, "; `engram pack` makes one"));
}

}  // namespace

absl::StatusOr<Manifest> ParseManifest(absl::string_view text, absl::string_view source) {
  absl::StatusOr<v1::Manifest> message = ParseText(text);
  if (!message.ok()) return WithSource(source, message.status());
  Manifest manifest;
  manifest.name = message->name();
  manifest.scheme = FromProto(message->address_scheme());
  for (const v1::LayerTable& layer : message->layers()) {
    manifest.layers.push_back(FromProto(layer));
  }
  absl::Status valid = CheckManifest(manifest);
  if (!valid.ok()) return WithSource(source, valid);
  manifest.text = std::string(text);
  manifest.id = Sha256Hex(text);
  return manifest;
}

absl::StatusOr<Manifest> LoadManifest(const std::string& directory) {
  struct stat stat;
  if (::stat(directory.c_str(), &stat) != 0) {
    return errno == ENOENT ? NoTableSet(directory, "no such directory")
                           : PosixError("look at", directory);
  }
  if (!S_ISDIR(stat.st_mode)) return NoTableSet(directory, "it is no directory");
  const std::string path = JoinPath(directory, kManifestFile);
  absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxManifestBytes);
  if (absl::IsNotFound(text.status())) {
    return NoTableSet(directory, absl::StrCat("it holds no ", kManifestFile));
  }
  if (!text.ok()) return text.status();
  const std::string digest_path = JoinPath(directory, kManifestDigestFile);
  absl::StatusOr<std::string> digest = ReadWholeFile(digest_path, kDigestFileBytes);
  if (!digest.ok()) {
    return absl::DataLossError(absl::StrCat("the digest of ", path,
                                            " can't be read: ", digest.status().message(),
                                            "; copy or pack the table set again"));
  }
  const std::string found = Sha256Hex(*text);
  if (*digest != found + "\n") {
    return absl::DataLossError(
        absl::StrCat(path, " has the SHA-256 ", found, ", which is not what ", digest_path,
                     " holds: one was changed or damaged; copy or pack the table set again"));
  }
  return ParseManifest(*text, path);
}

absl::StatusOr<Manifest> FinishManifest(Manifest manifest) {
  v1::Manifest message;
  message.set_format_version(kFormatVersion);
  message.set_name(manifest.name);
  ToProto(manifest.scheme, message.mutable_address_scheme());
  for (const LayerTableSpec& layer : manifest.layers) ToProto(layer, message.add_layers());
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  std::string text;
  if (!printer.PrintToString(message, &text)) {
    return absl::InternalError("the manifest could not be printed as text");
  }
  // Read back, so that nothing is published that a reader would refuse.
  return ParseManifest(text, "the new manifest");
}

}  // namespace engram
