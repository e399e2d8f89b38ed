#include "memstore/pack/checkpoint_config.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/json_walk.h"

namespace engram {
namespace {

using nlohmann::json;

// Configurations are a few kilobytes.
constexpr uint64_t kMaxConfigBytes = 4u << 20;

struct Expectation {
  const char* key;
  json value;
  const char* fix;
};

constexpr char kOtherFamily[] = "is --family the right one?";
constexpr char kOtherSize[] = "give the checkpoint's base size with --rows-per-head";

std::vector<Expectation> Expectations(const Family& family, const AddressScheme& scheme,
                                      uint64_t rows_per_head) {
  std::vector<uint32_t> layers;
  std::vector<uint64_t> rows;
  for (const LayerAddressing& layer : scheme.layers) {
    layers.push_back(layer.layer);
    rows.push_back(layer.Rows());
  }
  std::vector<Expectation> expectations = {
      {"engram_layer_ids", layers, kOtherFamily},
      {"engram_max_ngram_size", scheme.max_order, kOtherFamily},
      {"engram_n_heads", scheme.heads_per_order, kOtherFamily},
      {"engram_head_dim", family.row_dim, kOtherFamily},
      {"engram_pad_token_id", scheme.pad_id, kOtherFamily},
      {"engram_pad_id", scheme.pad_id, kOtherFamily},
      {"engram_vocab_size", rows_per_head, kOtherSize},
      {"engram_num_embeddings", rows, kOtherSize},
  };
  if (scheme.token_map) {
    expectations.push_back(
        {"engram_compressed_vocab_size", scheme.token_map->compressed_vocab_size, kOtherFamily});
  }
  return expectations;
}

// A size may be given once for each order: then all of them must be it.
bool Agrees(const json& found, const json& expected) {
  if (found == expected) return true;
  if (!found.is_array() || found.empty() || expected.is_array()) return false;
  for (const json& element : found) {
    if (element != expected) return false;
  }
  return true;
}

absl::Status CheckKeys(const json& object, const std::vector<Expectation>& expectations,
                       const std::string& path, const std::string& prefix) {
  for (const Expectation& expectation : expectations) {
    const auto it = object.find(expectation.key);
    if (it == object.end() || it->is_null() || Agrees(*it, expectation.value)) continue;
    constexpr auto kReplace = json::error_handler_t::replace;
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": ", prefix, expectation.key, " is ",
                     QuoteForMessage(it->dump(-1, ' ', false, kReplace)), ", expected ",
                     expectation.value.dump(), ": ", expectation.fix));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCheckpointConfig(const std::string& directory, const Family& family,
                                   const AddressScheme& scheme, uint64_t rows_per_head) {
  const std::string path = JoinPath(directory, "config.json");
  absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  // What builds and compares a tree recurses: nothing may nest deeper than the stack is.
  absl::Status walked =
      WalkJson(*text, [](const JsonPath&, const JsonValue&) { return absl::OkStatus(); });
  if (!walked.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": ", walked.message()));
  }
  const json config = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is no JSON object: it is damaged, or not a checkpoint's"));
  }
  const std::vector<Expectation> expectations = Expectations(family, scheme, rows_per_head);
  if (const auto it = config.find("text_config"); it != config.end() && it->is_object()) {
    absl::Status status = CheckKeys(*it, expectations, path, "text_config.");
    if (!status.ok()) return status;
  }
  return CheckKeys(config, expectations, path, "");
}

}  // namespace engram
