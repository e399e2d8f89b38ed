#include "memstore/pack/pack_options.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/plain_name.h"
#include "memstore/pack/staging_directory.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

absl::Status CheckTokenMapOption(const Family& family, const PackOptions& options) {
  const bool needed = family.compressed_vocab_size > 0;
  if (needed && options.token_map_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the family ", family.name, " hashes compressed token ids and needs its token ",
        "map (--token-map FILE): ", family.token_map_source));
  }
  if (!needed && !options.token_map_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the family ", family.name,
                                                   " hashes token ids as they are and takes no ",
                                                   "token map: leave --token-map out"));
  }
  return absl::OkStatus();
}

std::string SetName(const Family& family, const PackOptions& options) {
  return options.name.empty() ? std::string(family.name) : options.name;
}

}  // namespace

absl::Status CheckPackOptions(const Family& family, const PackOptions& options) {
  absl::Status status = CheckStagingOutput(options.output);
  if (status.ok()) status = CheckPlainName(SetName(family, options), "the table set's name");
  if (status.ok()) status = CheckTokenMapOption(family, options);
  return status;
}

absl::StatusOr<PackScheme> MakePackScheme(const Family& family, const PackOptions& options) {
  absl::Status status = CheckPackOptions(family, options);
  if (!status.ok()) return status;
  absl::StatusOr<AddressScheme> scheme = Derive(family, {options.rows_per_head, options.layers});
  if (!scheme.ok()) return scheme.status();
  PackScheme made{std::move(*scheme), std::nullopt};
  if (!made.scheme.token_map) return made;
  absl::StatusOr<TokenMap> map =
      TokenMap::Load(options.token_map_file, made.scheme.vocab_size, *made.scheme.token_map);
  if (!map.ok()) return map.status();
  made.token_map = std::move(*map);
  return made;
}

absl::StatusOr<Manifest> WriteTableSet(const Family& family, const PackOptions& options,
                                       const PackScheme& scheme,
                                       const std::vector<LayerRows>& layers,
                                       const std::function<absl::Status()>& may_publish) {
  uint64_t row_bytes = 0, file_bytes = 0;
  for (const LayerRows& layer : layers) {
    row_bytes += layer.spec.rows * layer.spec.row_bytes;
    file_bytes += ShardFileBytes(layer.spec.rows, layer.spec.row_bytes);
  }
  absl::StatusOr<TableSetWriter> writer = TableSetWriter::Begin(options.output, options.writer);
  if (!writer.ok()) return writer.status();
  absl::Status status = writer->CheckRoom(file_bytes);
  if (status.ok() && scheme.token_map) status = writer->AddTokenMap(scheme.token_map->bytes());
  ProgressCount progress(row_bytes, options.on_progress);
  for (const LayerRows& layer : layers) {
    if (status.ok()) status = writer->AddLayer(layer.spec, layer.rows, progress);
  }
  if (status.ok()) status = may_publish();
  if (!status.ok()) return status;
  return writer->Publish(SetName(family, options), scheme.scheme);
}

}  // namespace engram
