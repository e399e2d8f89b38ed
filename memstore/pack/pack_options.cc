#include "memstore/pack/pack_options.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/output/staging_directory.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

// Maps of vocabularies of up to 2^25 ids, a hundred times those of today's models.
constexpr uint64_t kMaxTokenMapBytes = uint64_t{128} << 20;

absl::Status CheckNoNeedlessTokenMap(const Family& family, const PackOptions& options) {
  if (family.compressed_vocab_size > 0 || options.token_map_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the family ", family.name,
                                                 " hashes token ids as they are and takes no ",
                                                 "token map: leave --token-map out"));
}

// The rows' own names go with the name of what they are.
absl::Status CheckEncodingName(const PackOptions& options) {
  if (!options.encoding.empty()) {
    if (options.rows.empty() && options.gguf_file.empty()) {
      return absl::InvalidArgumentError(
          "--encoding names what rows are that are packed as they are: it goes with --rows or "
          "--gguf");
    }
    if (IsKindName(options.encoding)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--encoding ", options.encoding,
                       " is the name of rows whose values engram knows, and "
                       "these are packed as they are: give a name of their own, as in ",
                       options.encoding, "_as_is"));
    }
    return CheckPlainName(options.encoding, "--encoding");
  }
  if (options.rows.empty() || !options.gguf_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--rows packs tensors as they are, and readers must be told what a row is: give it a name "
      "with --encoding NAME (as in nvfp4, or int4_g32_bf16)");
}

absl::StatusOr<MadeMap> ReadMap(const PackOptions& options) {
  if (options.made_token_map) return *options.made_token_map;
  absl::StatusOr<std::string> bytes = ReadWholeFile(options.token_map_file, kMaxTokenMapBytes);
  if (!bytes.ok()) return bytes.status();
  return MadeMap{*std::move(bytes), options.token_map_file};
}

// Another tokenizer's map, of which nothing but its size is known: its digest goes into the scheme.
absl::Status AdoptTokenMap(const PackOptions& options, Family& family) {
  const absl::StatusOr<MadeMap> map = ReadMap(options);
  if (!map.ok()) return map.status();
  const std::string& bytes = map->bytes;
  int64_t entries = 0, highest = -1;
  for (size_t at = 0; at + sizeof(int32_t) <= bytes.size(); at += sizeof(int32_t), ++entries) {
    int32_t id;
    std::memcpy(&id, bytes.data() + at, sizeof(id));
    highest = std::max<int64_t>(highest, id);
  }
  if (highest + 1 != family.compressed_vocab_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the token map ", map->source, " has ", highest + 1, " compressed ids, expected ",
        family.compressed_vocab_size, ": is it of the model's tokenizer?"));
  }
  family.vocab_size = static_cast<uint32_t>(entries);
  family.token_map_sha256 = Sha256Hex(bytes);
  return absl::OkStatus();
}

// It stands in lines for people.
absl::Status CheckSourceText(absl::string_view source) {
  const bool is_printable =
      std::none_of(source.begin(), source.end(), [](char c) { return absl::ascii_iscntrl(c); });
  if (is_printable && source.size() <= kMaxSourceBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--source is \"", QuoteForMessage(source),
                                                 "\": give a line of at most ", kMaxSourceBytes,
                                                 " bytes, as in OWNER/NAME@REVISION"));
}

}  // namespace

std::string SetName(const Family& family, const PackOptions& options) {
  return options.name.empty() ? std::string(family.name) : options.name;
}

absl::Status CheckPackOptions(const Family& family, const PackOptions& options) {
  absl::Status status = CheckStagingOutput(options.output);
  if (status.ok()) status = CheckPlainName(SetName(family, options), "the table set's name");
  if (status.ok()) status = CheckSourceText(options.source);
  if (status.ok()) status = CheckNoNeedlessTokenMap(family, options);
  if (status.ok()) status = CheckEncodingName(options);
  if (status.ok() && options.reset_token_id && family.reset_token_id < 0) {
    status = absl::InvalidArgumentError(absl::StrCat("no token ends a window of the family ",
                                                     family.name, ": leave --reset-token-id out"));
  }
  return status;
}

absl::Status CheckTokenMapGiven(const Family& family, const PackOptions& options) {
  if (family.compressed_vocab_size == 0 || !options.token_map_file.empty() ||
      options.made_token_map) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the family ", family.name, " hashes compressed token ids and needs its token ",
                   "map (--token-map FILE): ", family.token_map_source));
}

absl::StatusOr<PackScheme> MakePackScheme(const Family& model, const PackOptions& options) {
  Family family = model;
  absl::Status status = CheckPackOptions(family, options);
  if (status.ok()) status = CheckTokenMapGiven(family, options);
  if (status.ok() && family.compressed_vocab_size > 0 && family.token_map_sha256.empty()) {
    status = AdoptTokenMap(options, family);
  }
  if (!status.ok()) return status;
  const auto pad_token = static_cast<uint64_t>(family.pad_id);
  if (family.compressed_vocab_size > 0) family.pad_id = 0;  // until the map tells it
  absl::StatusOr<AddressScheme> scheme = Derive(family, {options.rows_per_head, options.layers});
  if (!scheme.ok()) return scheme.status();
  PackScheme made{std::move(*scheme), std::nullopt};
  if (!made.scheme.token_map) return made;
  const uint32_t vocab_size = made.scheme.vocab_size;
  const TokenMapReference& reference = *made.scheme.token_map;
  absl::StatusOr<TokenMap> map =
      options.made_token_map ? TokenMap::Parse(options.made_token_map->bytes, vocab_size, reference,
                                               options.made_token_map->source)
                             : TokenMap::Load(options.token_map_file, vocab_size, reference);
  if (!map.ok()) return map.status();
  made.token_map = std::move(*map);
  const std::vector<int32_t>& compressed = made.token_map->compressed();
  if (pad_token >= compressed.size()) {
    return absl::FailedPreconditionError(absl::StrCat("the pad token ", pad_token,
                                                      " is not among the ", compressed.size(),
                                                      " ids of the token map"));
  }
  made.scheme.pad_id = compressed[pad_token];
  return made;
}

absl::StatusOr<Manifest> WriteTableSet(const Family& family, const PackOptions& options,
                                       const PackScheme& scheme,
                                       const std::vector<LayerRows>& layers,
                                       const std::function<absl::Status()>& may_publish,
                                       const std::vector<SideFileText>& side_files) {
  uint64_t row_bytes = 0, file_bytes = 0;
  std::vector<LayerTableSpec> specs;
  for (const LayerRows& layer : layers) {
    specs.push_back(layer.spec);
    row_bytes += layer.spec.rows * layer.spec.row_bytes;
    file_bytes += ShardFileBytes(layer.spec.rows, layer.spec.row_bytes);
  }
  TableSetWriterOptions writer_options = options.writer;
  writer_options.on_note = options.on_note;
  absl::StatusOr<TableSetWriter> writer = TableSetWriter::Begin(options.output, writer_options);
  if (!writer.ok()) return writer.status();
  absl::Status status = writer->Plan(scheme.scheme, specs);
  if (status.ok()) status = writer->CheckRoom(file_bytes);
  if (status.ok() && scheme.token_map) status = writer->AddTokenMap(scheme.token_map->bytes());
  ProgressCount progress(row_bytes, options.on_progress);
  for (const LayerRows& layer : layers) {
    if (status.ok()) status = writer->AddLayer(layer.spec, layer.rows, progress);
  }
  for (const SideFileText& side_file : side_files) {
    if (status.ok()) status = writer->AddSideFile(side_file.name, side_file.kind, side_file.body);
  }
  if (!status.ok()) return status;
  if (status = may_publish(); !status.ok()) {
    writer->Discard();
    return status;
  }
  return writer->Publish(SetName(family, options), scheme.scheme);
}

}  // namespace engram
