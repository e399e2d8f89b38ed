// What is refused before anything of it is done: options and steps that cannot be. Stateless.
#pragma once

#include "absl/status/status.h"
#include "gpu/prefetch/prefetcher.h"
#include "memstore/table/manifest.h"

namespace engram {

// One layer's rows of one step, as fetched: offsets of the kernels are 32 bits wide.
inline constexpr uint64_t kMaxLayerBytes = (uint64_t{1} << 31) - 1;

// INVALID_ARGUMENT names the option, its value and what it may be.
absl::Status CheckPrefetcherOptions(const PrefetcherOptions& options, const Manifest& manifest);
absl::Status CheckStep(const Step& step, const PrefetcherOptions& options,
                       const AddressScheme& scheme);

}  // namespace engram
