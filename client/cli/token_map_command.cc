// engram token-map: a model's tokenizer.json in, the map from token ids to compressed ids out.

#include <cstddef>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "client/cli/support/command.h"
#include "client/terminal/streams.h"
#include "memstore/addressing/families.h"
#include "memstore/base/human_units.h"
#include "memstore/tokenizer/make_token_map.h"

namespace engram::cli {
namespace {

struct TokenMapFlags {
  std::string tokenizer;
  std::string output;
  bool json = false;
};

// The families that have this very map.
std::vector<std::string> KnownAs(const std::string& sha256) {
  std::vector<std::string> names;
  for (const Family& family : Families()) {
    if (family.token_map_sha256 == sha256) names.emplace_back(family.name);
  }
  return names;
}

std::string AsJson(const MadeTokenMap& map, const std::string& output) {
  nlohmann::ordered_json json;
  json["output"] = output;
  json["token_ids"] = map.compressed.size();
  json["compressed_ids"] = map.compressed_vocab_size;
  json["sha256"] = map.sha256;
  json["known_as"] = KnownAs(map.sha256);
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status WriteMap(const MadeTokenMap& map, const std::string& path) {
  absl::StatusOr<OutputFile> output = OutputFile::Open(path);
  if (!output.ok()) return output.status();
  const absl::Status written =
      output->Write({reinterpret_cast<const std::byte*>(map.bytes().data()), map.bytes().size()});
  return written.ok() ? output->Commit() : written;
}

int Run(const TokenMapFlags& flags) {
  if (flags.json && flags.output == "-") {
    return Finish(absl::InvalidArgumentError("--json and the map of --output - can't both go to "
                                             "standard output: give --output FILE"),
                  kBadUsage);
  }
  if (absl::Status s = CheckNotTerminal(flags.output); !s.ok()) return Finish(s, kBadUsage);
  if (absl::Status s = CheckNotOverInput(flags.output, flags.tokenizer, "--tokenizer"); !s.ok()) {
    return Finish(s, kBadUsage);
  }
  const absl::StatusOr<MadeTokenMap> map = MakeTokenMapOf(flags.tokenizer);
  if (!map.ok()) return Finish(map.status());
  if (absl::Status s = WriteMap(*map, flags.output); !s.ok()) return Finish(s);
  if (flags.json) return Finish(Print(AsJson(*map, flags.output)));
  const std::vector<std::string> known = KnownAs(map->sha256);
  std::fprintf(stderr, "token map %s: %s, %s, SHA-256 %s%s%s\n", flags.output.c_str(),
               Counted(map->compressed.size(), "token id").c_str(),
               Counted(map->compressed_vocab_size, "compressed id").c_str(), map->sha256.c_str(),
               known.empty() ? "" : ", known as that of ", absl::StrJoin(known, ", ").c_str());
  return kDone;
}

}  // namespace

void AddTokenMapCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<TokenMapFlags>();
  CLI::App* command = app.add_subcommand(
      "token-map",
      "Make the token map of a model from its tokenizer: for each token id the compressed id that\n"
      "some families hash in its place (ids whose texts differ in case, accents or blanks alone\n"
      "share one). int32, little-endian, for ids from 0 to the highest of vocabulary and added\n"
      "tokens. `engram pack` does this by itself where the checkpoint holds a tokenizer.json.\n"
      "  engram token-map --tokenizer MODEL/tokenizer.json --output token_map.i32");
  command
      ->add_option("--tokenizer", flags->tokenizer,
                   "the model's tokenizer.json: byte-level BPE, SentencePiece's BPE, unigram")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--output", flags->output,
                   "written aside and put in place when whole; - is standard output")
      ->required()
      ->type_name("FILE");
  command->add_flag("--json", flags->json,
                    "one JSON object on standard output in place of a line on standard error");
  command->callback([flags, chosen] { *chosen = [flags] { return Run(*flags); }; });
}

}  // namespace engram::cli
