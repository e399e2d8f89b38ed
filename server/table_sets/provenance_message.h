// A table set's provenance as Describe and List tell it. Stateless, thread-safe.
#pragma once

#include "memstore/table/side_files.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram {

void SetProvenance(const Provenance& provenance, v1::Provenance* message);

}  // namespace engram
