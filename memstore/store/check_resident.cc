#include "memstore/store/check_resident.h"

#include "absl/strings/str_cat.h"

namespace engram {

absl::Status CheckResident(const TableSet& set, absl::string_view way) {
  if (set.row_source().resident()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "table set ", set.name(), " (", set.id(), ") is not served ", way,
      ": its rows are brought to memory as they are asked for, which this way does not do: attach "
      "over gRPC (HOST:PORT or unix:PATH)"));
}

}  // namespace engram
