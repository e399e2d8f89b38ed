// What the log says of a table set. Stateless.
#pragma once

#include <cstdint>
#include <string>

#include "memstore/store/arena.h"
#include "memstore/store/resident_pages.h"
#include "memstore/table/manifest.h"

namespace engram {

double Gigabytes(uint64_t bytes);

// "1.02 GB on transparent-huge, 0.01 GB on 4KiB pages".
std::string PagesText(const ResidentPages& pages);

// What clients of the one would have to do otherwise with the other, both values of each; of
// layers the first that differs. Empty: nothing.
std::string ShapeChange(const Manifest& before, const Manifest& now);

}  // namespace engram
