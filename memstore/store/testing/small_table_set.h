// Table sets for tests of what loads and serves them: any row width, shard and block size, written
// without the packer, so that shapes which the packer never chooses are met as well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/table/manifest.h"

namespace engram::testing {

struct SmallLayer {
  uint32_t layer = 1;
  uint32_t row_bytes = 264;
  uint64_t rows = 5000;
  uint64_t shard_rows = 4096;  // a multiple of kShardRowMultiple
  uint32_t block_rows = 512;
  bool foreign_headers = false;  // of another layer, with checksums that match
};

struct SmallTableSet {
  std::string name = "small";
  std::vector<SmallLayer> layers = {SmallLayer()};
  bool with_token_map = false;  // 100 ids -> 10
  uint32_t columns = 1;         // of every layer; its rows are a multiple of them
  bool dead_positions = false;
  std::vector<int32_t> image_token_ids = {};  // in a side file; empty: there is none
};

// Writes the set to `directory`, which it makes (and empties where it is there). Rows are
// synthetic.
absl::StatusOr<Manifest> WriteSmallTableSet(const SmallTableSet& set, const std::string& directory);

// Writes every side file of the set in `directory` but links to `side_directory`, which may be the
// same: provenance of that repository, image token ids 7 and 9, the pages' checksums.
absl::Status WriteSmallSideFiles(const Manifest& manifest, const std::string& repository,
                                 const std::string& directory, const std::string& side_directory);

}  // namespace engram::testing
