#include "memstore/store/testing/small_table_set.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/shard_layout.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"
#include "memstore/table/synthetic.h"

namespace engram::testing {
namespace {

constexpr uint32_t kVocabSize = 100;
constexpr uint32_t kCompressedVocabSize = 10;

void WriteFile(const std::string& path, absl::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), bytes.size());
}

// Columns of equal parts of a layer's rows; one, so that it may have any number of them.
AddressScheme Scheme(const SmallTableSet& set) {
  AddressScheme scheme;
  scheme.family = "small";
  scheme.max_order = 2;
  scheme.heads_per_order = set.columns;
  scheme.vocab_size = kVocabSize;
  scheme.dead_positions = set.dead_positions;
  for (const SmallLayer& small : set.layers) {
    LayerAddressing layer{small.layer, {3, 5}, {}, {}};
    for (uint32_t c = 0; c < set.columns; ++c) {
      layer.moduli.push_back(small.rows / set.columns);
      layer.offsets.push_back(c * (small.rows / set.columns));
    }
    scheme.layers.push_back(std::move(layer));
  }
  return scheme;
}

std::string TokenMapBytes() {
  std::string bytes;
  for (int32_t id = 0; id < static_cast<int32_t>(kVocabSize); ++id) {
    const int32_t compressed = id % static_cast<int32_t>(kCompressedVocabSize);
    bytes.append(reinterpret_cast<const char*>(&compressed), sizeof(compressed));
  }
  return bytes;
}

void AppendWord(uint32_t word, std::string* out) {
  out->append(reinterpret_cast<const char*>(&word), sizeof(word));
}

// Writes the shard and its checksums, and fills in what the manifest says of them.
void WriteShard(const LayerTableSpec& layer, bool foreign_header, const std::string& directory,
                ShardSpec* shard) {
  shard->file_bytes = ShardFileBytes(shard->rows, layer.row_bytes);
  std::vector<std::byte> bytes(shard->file_bytes);
  LayerTableSpec header_layer = layer;
  if (foreign_header) ++header_layer.layer;
  const std::vector<std::byte> header = MakeShardHeader(header_layer, *shard);
  std::copy(header.begin(), header.end(), bytes.begin());
  for (uint64_t row = 0; row < shard->rows; ++row) {
    SyntheticRow(layer.layer, shard->first_row + row,
                 {&bytes[kShardHeaderBytes + row * layer.row_bytes], layer.row_bytes});
  }
  std::string checksums;
  AppendWord(Crc32c(header), &checksums);
  for (uint64_t block = 0; block < ShardBlocks(*shard); ++block) {
    AppendWord(
        Crc32c({&bytes[BlockOffset(layer, *shard, block)], BlockBytes(layer, *shard, block)}),
        &checksums);
  }
  shard->checksum_file_sha256 = Sha256Hex(checksums);
  WriteFile(absl::StrCat(directory, "/", shard->file),
            {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  WriteFile(absl::StrCat(directory, "/", shard->checksum_file), checksums);
}

LayerTableSpec WriteLayer(const SmallLayer& small, const std::string& directory) {
  LayerTableSpec layer;
  layer.layer = small.layer;
  layer.rows = small.rows;
  layer.row_bytes = small.row_bytes;
  layer.synthetic = true;
  for (uint64_t first = 0; first < small.rows; first += small.shard_rows) {
    ShardSpec shard;
    const std::string stem = absl::StrCat("layer", small.layer, "-", layer.shards.size());
    shard.file = stem + ".rows";
    shard.checksum_file = stem + ".crc32c";
    shard.first_row = first;
    shard.rows = std::min(small.shard_rows, small.rows - first);
    shard.block_rows = small.block_rows;
    WriteShard(layer, small.foreign_headers, directory, &shard);
    layer.shards.push_back(std::move(shard));
  }
  return layer;
}

}  // namespace

absl::StatusOr<Manifest> WriteSmallTableSet(const SmallTableSet& set,
                                            const std::string& directory) {
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  Manifest manifest;
  manifest.name = set.name;
  manifest.scheme = Scheme(set);
  if (set.with_token_map) {
    const std::string bytes = TokenMapBytes();
    manifest.scheme.token_map = {kTokenMapFile, Sha256Hex(bytes), kCompressedVocabSize};
    WriteFile(absl::StrCat(directory, "/", kTokenMapFile), bytes);
  }
  for (const SmallLayer& small : set.layers) {
    manifest.layers.push_back(WriteLayer(small, directory));
  }
  absl::StatusOr<Manifest> finished = FinishManifest(std::move(manifest));
  if (!finished.ok()) return finished.status();
  WriteFile(absl::StrCat(directory, "/", kManifestFile), finished->text);
  WriteFile(absl::StrCat(directory, "/", kManifestDigestFile), finished->id + "\n");
  if (set.image_token_ids.empty()) return finished;
  const absl::Status written =
      WriteSideFile(absl::StrCat(directory, "/", kImageTokenIdsFile), kImageTokenIdsKind,
                    finished->id, ImageTokenIdsBody(set.image_token_ids));
  if (!written.ok()) return written;
  return finished;
}

absl::Status WriteSmallSideFiles(const Manifest& manifest, const std::string& repository,
                                 const std::string& directory, const std::string& side_directory) {
  const auto write = [&](const std::string& name, const char* kind, const std::string& body) {
    return WriteSideFile(JoinPath(side_directory, name), kind, manifest.id, body);
  };
  Provenance provenance;
  provenance.source_kind = kCheckpointSource;
  provenance.path = absl::StrCat("/models/", repository);
  provenance.repository = repository;
  provenance.revision = "r1";
  provenance.packer_version = "0.1.0";
  provenance.packed_at = absl::FromUnixSeconds(1'000'000'000);
  ENGRAM_RETURN_IF_ERROR(write(kProvenanceFile, kProvenanceKind, ProvenanceBody(provenance)));
  ENGRAM_RETURN_IF_ERROR(write(kImageTokenIdsFile, kImageTokenIdsKind, ImageTokenIdsBody({7, 9})));
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      ENGRAM_ASSIGN_OR_RETURN(const std::string rows,
                              ReadWholeFile(JoinPath(directory, shard.file), shard.file_bytes));
      const auto* bytes = reinterpret_cast<const std::byte*>(rows.data());
      std::vector<uint32_t> pages;
      for (uint64_t at = 0; at < rows.size(); at += kShardPageBytes) {
        pages.push_back(Crc32c({bytes + at, kShardPageBytes}));
      }
      ENGRAM_RETURN_IF_ERROR(
          write(PageChecksumsFile(shard), kPageChecksumsKind, PageChecksumsBody(pages)));
    }
  }
  return absl::OkStatus();
}

}  // namespace engram::testing
