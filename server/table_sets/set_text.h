// What the log and messages say of a table set. Stateless.
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "memstore/store/control_page.h"
#include "memstore/store/table_set.h"
#include "memstore/table/manifest.h"

namespace engram {

struct TableSetStatus;  // table_set_manager.h

double Gigabytes(uint64_t bytes);

// What clients of the one would have to do otherwise with the other, both values of each; of
// layers the first that differs. Empty: nothing.
std::string ShapeChange(const Manifest& before, const Manifest& now);

// As operators read it: "serving", "superseded", "retired", "gone", "fenced".
absl::string_view Name(TableSetState state);

// "1 mapped, 2 ring, gRPC 7 s ago": the clients that have it; empty: none.
std::string HeldBy(const TableSetStatus& set);

// That it was loaded: how much, how long it took, where it is from, on which pages it lies and how
// it is gathered. A warning where tables for other processes lie on small pages.
void LogLoaded(spdlog::logger& log, const TableSet& set, absl::Duration took, bool shareable);

}  // namespace engram
