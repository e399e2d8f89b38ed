#include "client/transport/attach_check.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transport/asked_for.h"
#include "memstore/base/status_macros.h"
#include "memstore/partition/held_check.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// Empty: all of it.
absl::StatusOr<std::vector<HeldLayer>> TakeHeld(const AttachAnswer& answer,
                                                const Manifest& manifest) {
  std::vector<HeldLayer> held;
  if (answer.held.empty()) return held;
  if (answer.held.size() != manifest.layers.size()) {
    return absl::DataLossError(absl::StrCat(answer.owner, " says what it holds of ",
                                            answer.held.size(), " layers, the table set has ",
                                            manifest.layers.size()));
  }
  for (size_t i = 0; i < answer.held.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    if (answer.held[i].layer != layer.layer) {
      return absl::DataLossError(absl::StrCat(answer.owner, " says what it holds of layer ",
                                              answer.held[i].layer, " where layer ", layer.layer,
                                              " of the table set is due"));
    }
    held.push_back({.table_rows = layer.rows, .ranges = answer.held[i].ranges});
    if (absl::Status status = CheckRanges(held.back(), layer.rows); !status.ok()) {
      return absl::DataLossError(
          absl::StrCat(answer.owner, ", layer ", layer.layer, ": ", status.message()));
    }
  }
  return held;
}

}  // namespace

absl::StatusOr<AttachedTableSet> CheckAttached(
    const AttachAnswer& answer, absl::string_view asked,
    absl::FunctionRef<absl::StatusOr<absl::string_view>()> token_map) {
  const std::string source = absl::StrCat("the manifest that ", answer.owner, " sent");
  absl::StatusOr<Manifest> manifest = ParseManifest(answer.manifest, source);
  if (!manifest.ok()) return absl::DataLossError(manifest.status().message());
  if (manifest->id != answer.table_set_id) {
    return absl::DataLossError(absl::StrCat(source, " has digest ", manifest->id,
                                            ", but it is said to be table set ",
                                            answer.table_set_id));
  }
  ENGRAM_RETURN_IF_ERROR(CheckAskedFor(*manifest, asked, answer.owner));
  const absl::Span<const int32_t> images = answer.image_token_ids;
  if (images.size() > wire::kMostImageTokenIds) {
    return absl::DataLossError(absl::StrCat(answer.owner, " sent ", images.size(),
                                            " image token ids: ", wire::kMostImageTokenIds,
                                            " are the most that a table set has"));
  }
  ENGRAM_ASSIGN_OR_RETURN(std::vector<HeldLayer> held, TakeHeld(answer, *manifest));
  AttachedTableSet attached{.manifest = *std::move(manifest),
                            .token_map = nullptr,
                            .image_token_ids = {images.begin(), images.end()},
                            .held = std::move(held)};
  const AddressScheme& scheme = attached.manifest.scheme;
  if (!scheme.token_map) return attached;
  ENGRAM_ASSIGN_OR_RETURN(const absl::string_view bytes, token_map());
  absl::StatusOr<TokenMap> map =
      TokenMap::Parse(bytes, scheme.vocab_size, *scheme.token_map,
                      absl::StrCat("the token map that ", answer.owner, " sent"));
  if (!map.ok()) return absl::DataLossError(map.status().message());
  attached.token_map = std::make_shared<const TokenMap>(*std::move(map));
  return attached;
}

}  // namespace engram
