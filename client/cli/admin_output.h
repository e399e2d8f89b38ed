// What `engram admin` says of an engramd's answers, as text for people and as JSON for scripts.
// Texts show an engramd's words as lines that a terminal does not obey. Stateless.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/admin/grpc_admin.h"

namespace engram::cli {

std::string ListText(const AdminList& list);
std::string ListJson(const AdminList& list);

std::string PublishedText(const AdminPublished& published, const std::string& directory);
std::string PublishedJson(const AdminPublished& published, const std::string& directory);

// `asked`: as the set was named.
std::string RetiredText(const AdminRetired& retired, const std::string& asked);
std::string RetiredJson(const AdminRetired& retired, const std::string& asked);

// What was verified when `bytes` of the sets of `list` held, and which sets were not there to be:
// what was fenced is not in memory any more. DATA_LOSS, as of the scrub that found it, while a
// fenced set is missed; FAILED_PRECONDITION when nothing was verified.
struct Scrubbed {
  uint64_t bytes = 0;
  std::vector<std::string> fenced;  // ids, of those that are not missed
};
absl::StatusOr<Scrubbed> CheckScrubbed(uint64_t bytes, const AdminList& list);
std::string ScrubbedText(const Scrubbed& scrubbed);
std::string ScrubbedJson(const Scrubbed& scrubbed);

}  // namespace engram::cli
