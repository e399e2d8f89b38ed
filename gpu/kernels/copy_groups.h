// Copies groups of rows from places to places, on a stream: how the hot cache's rows come and go.
//
// The order in which groups are copied is nobody's to rely on: a device copies them side by side,
// and the host backend begins with the last, so that whoever does is found out in tests. No two
// groups of a call may have the same place to go to.
#pragma once

#include "absl/status/status.h"
#include "gpu/device/device.h"
#include "gpu/kernels/copy_groups_cuda.h"

namespace engram {

// Enqueues it; memory and lists stay until it was done. Nothing is enqueued for no groups.
absl::Status EnqueueCopyGroups(const CopyGroupsArguments& copy, Stream& stream);

}  // namespace engram
