#include "client/cli/provenance_json.h"

#include <string>

namespace engram::cli {

nlohmann::ordered_json ProvenanceJson(const std::optional<Provenance>& provenance) {
  if (!provenance) return nullptr;
  const auto known = [](const std::string& text) -> nlohmann::ordered_json {
    if (text.empty()) return nullptr;
    return text;
  };
  return {{"source_kind", known(provenance->source_kind)},
          {"path", known(provenance->path)},
          {"repository", known(provenance->repository)},
          {"revision", known(provenance->revision)},
          {"index_sha256", known(provenance->index_sha256)},
          {"headers_sha256", known(provenance->headers_sha256)},
          {"stored_constants", provenance->stored_constants},
          {"packer_version", known(provenance->packer_version)},
          {"packed_at", FormatPackedAt(provenance->packed_at)}};
}

}  // namespace engram::cli
