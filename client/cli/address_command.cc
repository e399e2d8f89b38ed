// engram address: token ids in, row ids out; no table is needed, only how one is addressed.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/support/command.h"
#include "client/cli/support/token_flags.h"
#include "client/cli/support/token_stream.h"
#include "client/terminal/streams.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/families.h"
#include "memstore/program/flag_text.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_files.h"

namespace engram::cli {
namespace {

// Row ids that are held at a time; larger chunks are cut, which changes no byte.
constexpr uint64_t kMaxRowIdBytes = uint64_t{32} << 20;
// Tokens read and row ids written together: enough that a call to the system costs nothing beside
// them.
constexpr uint64_t kBlockTokens = 4096;
// What --chunk-tokens may be; a negative number, which is read as one near 2^64, is beyond it.
constexpr uint64_t kMaxChunkTokens = uint64_t{1} << 32;

struct AddressFlags {
  std::string family;
  std::string table_set;
  std::string token_map;
  uint64_t rows_per_head = 0;
  TokenFiles tokens;
  std::string output;
  uint64_t chunk_tokens = kBlockTokens;
  bool allow_unmasked_images = false;
};

// What the flags name: a scheme, where its token map is (empty: it has none), and the token ids
// that are known to stand for images.
struct Source {
  AddressScheme scheme;
  std::string token_map_path;
  std::vector<int32_t> image_token_ids;
};

absl::StatusOr<Source> FromFamily(const AddressFlags& flags) {
  const absl::StatusOr<const Family*> found = FindFamily(flags.family);
  if (!found.ok()) return found.status();
  const Family& family = **found;
  const bool needs_map = family.compressed_vocab_size > 0;
  if (needs_map && flags.token_map.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "family ", family.name, " hashes compressed token ids: give its token map with ",
        "--token-map FILE; ", family.token_map_source));
  }
  if (!needs_map && !flags.token_map.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "family ", family.name, " hashes token ids as they are: leave --token-map out"));
  }
  absl::StatusOr<AddressScheme> scheme = Derive(family, {.rows_per_head = flags.rows_per_head});
  if (!scheme.ok()) return scheme.status();
  return Source{*std::move(scheme), flags.token_map, family.image_token_ids};
}

absl::StatusOr<Source> FromTableSet(const AddressFlags& flags) {
  absl::StatusOr<Manifest> manifest = LoadManifest(flags.table_set);
  if (!manifest.ok()) return manifest.status();
  absl::StatusOr<SideFiles> sides = LoadSmallSideFiles(flags.table_set, "", *manifest);
  if (!sides.ok()) return sides.status();
  Source source{std::move(manifest->scheme), "", std::move(sides->image_token_ids)};
  if (source.scheme.token_map) {
    source.token_map_path = absl::StrCat(flags.table_set, "/", source.scheme.token_map->file);
  }
  return source;
}

// What can be said of the flags before anything is read.
absl::Status CheckFlags(const AddressFlags& flags) {
  if (flags.family.empty() == flags.table_set.empty()) {
    return absl::InvalidArgumentError(
        "give either --family NAME (and --token-map where it needs one) or --table-set DIR");
  }
  if (!flags.table_set.empty() && (!flags.token_map.empty() || flags.rows_per_head > 0)) {
    return absl::InvalidArgumentError(
        "--table-set has its own token map and sizes: leave --token-map and --rows-per-head out");
  }
  return CheckTokenFiles(flags.tokens);
}

// Addresses a stream block by block and each block chunk by chunk, through the incremental state.
class RowIdWriter {
 public:
  RowIdWriter(const Addresser& addresser, uint64_t chunk_tokens) : addresser_(addresser) {
    const AddressScheme& scheme = addresser.scheme();
    token_rows_ = scheme.layers.size() * scheme.Columns();
    const uint64_t max_tokens = std::max<uint64_t>(1, kMaxRowIdBytes / sizeof(RowId) / token_rows_);
    chunk_tokens_ = std::min(chunk_tokens, max_tokens);
    // Whole chunks, so that blocks cut none.
    const uint64_t block_tokens = std::min(kBlockTokens, max_tokens);
    block_tokens_ = chunk_tokens_ * std::max<uint64_t>(1, block_tokens / chunk_tokens_);
  }

  absl::Status Run(TokenStream* tokens, OutputFile* output) {
    rows_.resize(block_tokens_ * token_rows_);
    while (true) {
      const absl::StatusOr<TokenStream::Run> run = tokens->Read(block_tokens_);
      if (!run.ok()) return run.status();
      const size_t count = run->token_ids.size();
      if (count == 0) return absl::OkStatus();
      if (run->starts_sequence) state_ = Addresser::Start();
      if (absl::Status s = AddressBlock(run->token_ids, run->dead); !s.ok()) return s;
      const std::byte* const bytes = reinterpret_cast<const std::byte*>(rows_.data());
      if (absl::Status s = output->Write({bytes, count * token_rows_ * sizeof(RowId)}); !s.ok()) {
        return s;
      }
    }
  }

 private:
  absl::Status AddressBlock(absl::Span<const int32_t> ids, absl::Span<const uint8_t> dead) {
    for (size_t begin = 0; begin < ids.size(); begin += chunk_tokens_) {
      const auto chunk = ids.subspan(begin, chunk_tokens_);
      const auto marks = dead.empty() ? dead : dead.subspan(begin, chunk_tokens_);
      absl::Status status = addresser_.Address(state_, chunk, marks, Outputs(begin));
      if (status.ok()) status = addresser_.Advance(chunk, marks, &state_);
      if (!status.ok()) {
        return absl::Status(status.code(), absl::StrCat("in the chunk that begins at token ",
                                                        tokens_done_, ": ", status.message()));
      }
      tokens_done_ += chunk.size();
    }
    return absl::OkStatus();
  }

  // For tokens from the block's `begin` on: [tokens, layers, columns].
  const std::vector<LayerRowIdsOutput>& Outputs(size_t begin) {
    const AddressScheme& scheme = addresser_.scheme();
    outputs_.resize(scheme.layers.size());
    for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
      RowId* const rows = rows_.data() + begin * token_rows_ + size_t{l} * scheme.Columns();
      outputs_[l] = {.layer_index = l, .rows = rows, .token_stride = token_rows_};
    }
    return outputs_;
  }

  const Addresser& addresser_;
  uint64_t token_rows_ = 0;
  uint64_t chunk_tokens_ = 0;
  uint64_t block_tokens_ = 0;
  uint64_t tokens_done_ = 0;
  SequenceState state_ = Addresser::Start();
  std::vector<RowId> rows_;  // of a block
  std::vector<LayerRowIdsOutput> outputs_;
};

absl::Status WriteRowIds(Source source, const AddressFlags& flags) {
  if (flags.allow_unmasked_images) source.image_token_ids.clear();
  const absl::StatusOr<std::shared_ptr<const Addresser>> addresser =
      Addresser::Load(std::move(source.scheme), source.token_map_path, {}, source.image_token_ids);
  if (!addresser.ok()) return addresser.status();
  absl::StatusOr<TokenStream> tokens = TokenStream::Open(flags.tokens);
  if (!tokens.ok()) return tokens.status();
  absl::StatusOr<OutputFile> output = OutputFile::Open(flags.output);
  if (!output.ok()) return output.status();
  RowIdWriter writer(**addresser, flags.chunk_tokens);
  const absl::Status status = writer.Run(&*tokens, &*output);
  return status.ok() ? output->Commit() : status;
}

int Run(const AddressFlags& flags) {
  if (absl::Status s = CheckFlags(flags); !s.ok()) return Finish(s, kBadUsage);
  if (absl::Status s = CheckNotOverTokenFiles(flags.output, flags.tokens); !s.ok()) {
    return Finish(s, kBadUsage);
  }
  if (absl::Status s = CheckNotOverInput(flags.output, flags.token_map, "--token-map"); !s.ok()) {
    return Finish(s, kBadUsage);
  }
  if (absl::Status s = CheckNotTerminal(flags.output); !s.ok()) return Finish(s, kBadUsage);
  const bool by_family = flags.table_set.empty();
  absl::StatusOr<Source> source = by_family ? FromFamily(flags) : FromTableSet(flags);
  if (!source.ok()) return Finish(source.status(), by_family ? kBadUsage : kFailed);
  if (absl::Status s = CheckDeadMask(flags.tokens, source->scheme); !s.ok()) {
    return Finish(s, kBadUsage);
  }
  return Finish(WriteRowIds(*std::move(source), flags));
}

}  // namespace

void AddAddressCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<AddressFlags>();
  CLI::App* command = app.add_subcommand(
      "address",
      "Turn token ids into the row ids of an Engram table, without the table.\n"
      "Each token gets one row id for every layer and column (an n-gram order and a hash head),\n"
      "made from it and the few tokens before it. The output is raw int64, little-endian,\n"
      "[tokens, layers, columns]: row numbers in the layer's table, column offset included, "
      "layers\n"
      "ascending. Say how the table is addressed by a model family or by a packed table set:\n"
      "  engram address --family qwen4-exp --token-ids ids.i32 --output rows.i64\n"
      "  engram address --table-set DIR --token-ids - --output - < ids.i32 > rows.i64");
  command->add_option("--family", flags->family, absl::StrCat("the model family: ", FamilyNames()))
      ->check(RefuseEmpty)
      ->check(Suggest(absl::StrSplit(FamilyNames(), ", ")))
      ->type_name("NAME");
  command
      ->add_option("--table-set", flags->table_set,
                   "a packed table set, in place of family, token map and size")
      ->check(RefuseEmpty)
      ->type_name("DIR");
  command
      ->add_option("--token-map", flags->token_map,
                   "with --family, where it hashes compressed ids: the map, int32 little-endian; "
                   "a wrong one is refused")
      ->check(RefuseEmpty)
      ->type_name("FILE");
  command
      ->add_option(
          "--rows-per-head", flags->rows_per_head,
          "with --family: its base size, to address a scaled table (default: the family's)")
      ->check(CLI::Range(uint64_t{1}, kMaxLayerRows));
  command
      ->add_option("--token-ids", flags->tokens.token_ids,
                   "one sequence from its start, raw int32 little-endian or a .npy file; - is "
                   "standard input")
      ->required()
      ->type_name("FILE");
  AddTokenIdsTypeFlag(*command, &flags->tokens.token_ids_type);
  AddSequenceTokensFlag(*command, &flags->tokens.sequence_tokens);
  AddDeadMaskFlag(*command, &flags->tokens.dead_mask);
  AddAllowUnmaskedImagesFlag(*command, &flags->allow_unmasked_images);
  command
      ->add_option("--output", flags->output,
                   "written aside and put in place when whole; a link's target is replaced, not "
                   "the link, and "
                   "must exist; - is standard output")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--chunk-tokens", flags->chunk_tokens,
                   "tokens addressed at a time; any number gives the same bytes (default 4096)")
      ->check(CLI::Range(uint64_t{1}, kMaxChunkTokens));
  GroupFlags(*command, "Addresses", {"--family", "--table-set", "--token-map", "--rows-per-head"});
  GroupFlags(*command, "Token ids",
             {"--token-ids", "--token-ids-type", "--sequence-tokens", "--dead-mask",
              "--allow-unmasked-images"});
  command->callback([flags, chosen] { *chosen = [flags] { return Run(*flags); }; });
}

}  // namespace engram::cli
