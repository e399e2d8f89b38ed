#include "memstore/pack/checkpoint_scheme.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/status_macros.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/stored_constants.h"
#include "memstore/recipe/checkpoint_config.h"
#include "memstore/tokenizer/checkpoint_token_map.h"

namespace engram {
namespace {

// What the flags and config.json say.
absl::StatusOr<StatedRecipe> ReadRecipe(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options, ConfigReport* report) {
  StatedRecipe stated;
  ENGRAM_RETURN_IF_ERROR(StateFlags(options, stated));
  ENGRAM_ASSIGN_OR_RETURN(*report,
                          ReadCheckpointConfig(checkpoint, family, options.reset_token_id, stated));
  return stated;
}

// Without a map that is given, the one that the checkpoint's tokenizer makes: its size is one more
// statement, which others are held against.
absl::Status TakeTokenizer(const Family& family, const std::string& checkpoint,
                           StatedRecipe& stated, PackOptions& options) {
  if (family.compressed_vocab_size == 0 || !options.token_map_file.empty()) return absl::OkStatus();
  const std::string source = TokenizerPath(checkpoint);
  ENGRAM_ASSIGN_OR_RETURN(const MadeTokenMap map, MakeCheckpointTokenMap(family, checkpoint));
  if (stated.Find(RecipeParameter::kCompressedVocabSize) == nullptr) {
    ENGRAM_RETURN_IF_ERROR(CheckVocabulary(map, family, source));
  }
  options.made_token_map = MadeMap{std::string(map.bytes()), absl::StrCat("made from ", source)};
  absl::Status agrees =
      stated.State(RecipeParameter::kCompressedVocabSize,
                   {{map.compressed_vocab_size},
                    absl::StrCat(source, ": the size of the token map made from it"),
                    absl::StrCat(map.compressed_vocab_size)});
  if (agrees.ok()) return agrees;
  return absl::Status(agrees.code(), absl::StrCat(agrees.message(), ". --token-map FILE gives the ",
                                                  "map in place of the tokenizer"));
}

// The table's tensors, those that hold constants and those beside tensors that are named, whose
// tables `named` learns. The latter two may be in files that are not there, as who fetches the
// table alone has not got them: `missing` says so.
absl::StatusOr<Checkpoint> OpenCheckpoint(const Family& family, const AddressScheme& scheme,
                                          const std::string& directory, const PackOptions& options,
                                          RowNames& named, std::string* missing) {
  const bool are_named = !named.names().empty();
  const WantedTensor tables = TableTensors(family);
  const WantedTensor others = OtherTables(family, scheme);
  const WantedTensor stored = ConstantTensors(family);
  const auto rows = [&](absl::string_view name) {
    return are_named ? named.Means(name) : tables(name) || others(name);
  };
  const auto constants = [&](absl::string_view name) {
    return stored(name) || (are_named && (named.IsBeside(name) || others(name)));
  };
  if (!named.TellTables()) {
    ENGRAM_ASSIGN_OR_RETURN(const Checkpoint alone, Checkpoint::Open(directory, rows));
    named.LearnTables(SourceOf(alone));
  }
  absl::StatusOr<Checkpoint> opened = Checkpoint::Open(
      directory, [&](absl::string_view name) { return rows(name) || constants(name); });
  if (!absl::IsNotFound(opened.status()) || options.use_stored_constants) return opened;
  absl::StatusOr<Checkpoint> without = Checkpoint::Open(directory, rows);
  if (without.ok()) *missing = std::string(opened.status().message());
  return without;
}

std::vector<std::string> Notes(const ConfigReport& report, const CheckpointScheme& model,
                               const std::vector<std::string>& constants, bool took_stored,
                               const std::string& missing) {
  std::vector<std::string> notes;
  if (!report.not_compared.empty()) {
    notes.push_back(absl::StrCat(
        "config.json was not compared: ", report.not_compared,
        constants.empty() ? absl::StrCat("; the constants are those of ", model.family.name) : ""));
  }
  if (!missing.empty()) notes.push_back(absl::StrCat("constants were not compared: ", missing));
  if (!report.unread.empty()) {
    notes.push_back(absl::StrCat("keys of config.json that this program does not know: ",
                                 absl::StrJoin(report.unread, ", ")));
  }
  notes.insert(notes.end(), report.notes.begin(), report.notes.end());
  notes.insert(notes.end(), model.differences.begin(), model.differences.end());
  if (took_stored) {
    notes.push_back(absl::StrCat("the constants are those that the checkpoint stores in ",
                                 absl::StrJoin(constants, ", ")));
  }
  return notes;
}

}  // namespace

absl::StatusOr<CheckpointScheme> ReadCheckpointScheme(const Family& family,
                                                      const std::string& checkpoint,
                                                      const PackOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckPackOptions(family, options));
  ConfigReport report;
  CheckpointScheme model;
  ENGRAM_ASSIGN_OR_RETURN(model.rows, RowNames::Parse(options.rows, "--rows"));
  ENGRAM_ASSIGN_OR_RETURN(model.stated, ReadRecipe(family, checkpoint, options, &report));
  PackOptions derived = options;
  derived.rows_per_head = 0;  // it is among what is stated
  ENGRAM_RETURN_IF_ERROR(TakeTokenizer(family, checkpoint, model.stated, derived));
  ENGRAM_ASSIGN_OR_RETURN(model.family, model.stated.Apply(family));
  model.is_compared = report.not_compared.empty();
  model.differences = model.stated.Differences(family);
  absl::StatusOr<PackScheme> scheme = MakePackScheme(model.family, derived);
  if (!scheme.ok()) return WithDifferences(scheme.status(), model);
  model.scheme = *std::move(scheme);
  if (model.scheme.token_map) {
    ENGRAM_RETURN_IF_ERROR(
        model.stated.CheckTokenMapLength(model.scheme.token_map->compressed().size()));
  }
  AddressScheme& addresses = model.scheme.scheme;
  ENGRAM_RETURN_IF_ERROR(WithDifferences(model.stated.CheckLayerRows(addresses), model));
  std::string missing;
  ENGRAM_ASSIGN_OR_RETURN(Checkpoint opened, OpenCheckpoint(model.family, addresses, checkpoint,
                                                            options, model.rows, &missing));
  model.checkpoint = std::make_unique<const Checkpoint>(std::move(opened));
  ENGRAM_RETURN_IF_ERROR(
      WithDifferences(CheckNoOtherTables(model.family, addresses, *model.checkpoint), model));
  absl::StatusOr<std::vector<std::string>> constants = CompareStoredConstants(
      model.family, *model.checkpoint, options.use_stored_constants, addresses);
  if (!constants.ok()) return WithDifferences(constants.status(), model);
  model.notes = Notes(report, model, *constants, options.use_stored_constants, missing);
  if (model.scheme.token_map) {
    std::string note = model.stated.NoteOnTokenMap(model.scheme.token_map->compressed().size());
    if (!note.empty()) model.notes.push_back(std::move(note));
  }
  return model;
}

absl::Status StateFlags(const PackOptions& options, StatedRecipe& stated) {
  if (options.rows_per_head > 0) {
    ENGRAM_RETURN_IF_ERROR(stated.State(
        RecipeParameter::kBaseRows,
        {{options.rows_per_head}, "--rows-per-head", absl::StrCat(options.rows_per_head)}));
  }
  if (!options.reset_token_id) return absl::OkStatus();
  return stated.State(
      RecipeParameter::kResetToken,
      {{*options.reset_token_id}, "--reset-token-id", absl::StrCat(*options.reset_token_id)});
}

absl::Status WithDifferences(const absl::Status& status, const CheckpointScheme& model) {
  return WithDifferences(status, model.stated, model.differences);
}

absl::Status WithDifferences(const absl::Status& status, const StatedRecipe& stated,
                             const std::vector<std::string>& differences) {
  if (status.ok()) return status;
  std::vector<std::string> said = differences;
  // A table of another size is another base size's, whoever said that one.
  const RecipeStatement* base = stated.Find(RecipeParameter::kBaseRows);
  if (base != nullptr) {
    const std::string base_said = absl::StrCat(base->source, " is ", base->text);
    const bool is_new = std::none_of(said.begin(), said.end(), [&](const std::string& each) {
      return absl::StartsWith(each, base_said);
    });
    if (is_new) said.push_back(base_said);
  }
  if (said.empty()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(status.message(), "; given beside the family: ", absl::StrJoin(said, "; ")));
}

}  // namespace engram
