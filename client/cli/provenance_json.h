// A table set's provenance as commands print it with --json. Stateless.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "memstore/table/side_files.h"

namespace engram::cli {

// null where it is not known, and so are its texts and digests that are not.
nlohmann::ordered_json ProvenanceJson(const std::optional<Provenance>& provenance);

}  // namespace engram::cli
