// What can be said of a configuration before the minutes that loading its tables takes.
//
// Reads manifests, token maps, side files and the headers of linked files, lists the sets'
// directories, and touches the addresses; stateless.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/config/config.h"
#include "server/table_sets/checkpoint_set.h"

namespace engram {

// One thing that was looked at.
struct Finding {
  std::string what;  // "table set /tables/a: qwen4-exp 891b..., 1.02 GB of rows"
  absl::Status status = absl::OkStatus();  // its message names the thing as well
  bool is_note = false;                    // nothing is wrong, but it may not be what was meant
};

// The first that is wrong. Errors: TLS's and AccessControl's for certificates, keys and tokens;
// LoadManifest's, CheckSetDirectory's, TokenMap::Load's, LoadSmallSideFiles' and, of a linked set,
// CheckLinkedFiles', naming the directory; ALREADY_EXISTS when one set stands there twice, or two
// of one name, the checkpoint's among them, by which clients could not tell them apart;
// INVALID_ARGUMENT when the rows of one token are more than a batch may have;
// CheckCheckpointPlace's; CheckCanListen's, naming the flag. Where nothing is wrong, notes on what
// may not be meant: what --allow says of table sets whose names none has that is to be served. They
// may be published later, so nothing is refused.
absl::StatusOr<std::vector<std::string>> CheckBeforeLoading(const ServerConfig& config);

// All of it that holds while another engramd serves by the same configuration, good and bad, one
// finding for each file, table set and socket; of the addresses, whether a Unix socket's folder is
// there and may be written to (none is touched); of memory, whether the sets are more than
// --memory-limit-bytes, the machine or a control group allows at all: RESOURCE_EXHAUSTED; of
// --state-dir, whether it is there or could be made, and what is kept in it (CheckStateDirectory,
// PublicationRecord::Open, WithPublications; nothing is made); of a
// checkpoint all that linking it says before its rows are read (CheckCheckpointSource).
std::vector<Finding> CheckConfiguration(const ServerConfig& config);

// How table sets are to be served, of a configuration.
struct SetsToServe {
  // STATE_DIRECTORY/ID may hold side files of one; empty: nowhere does.
  std::string state_directory;
  uint64_t max_batch_rows = 0;
  std::optional<Partition> partition;  // of each
};
SetsToServe SetsOf(const ServerConfig& config);

// Of table sets that are to be served together: those of the errors above that are of them.
absl::Status CheckTableSets(absl::Span<const std::string> directories, const SetsToServe& how);

// The checkpoint of a configuration that has one.
CheckpointSource SourceOf(const ServerConfig& config);

// A line for each of which nothing is wrong, "ok" or "note" first.
std::string FindingsText(const std::vector<Finding>& findings);
// A line for each of the others, "FAILED" first.
std::string FailuresText(const std::vector<Finding>& findings);

}  // namespace engram
