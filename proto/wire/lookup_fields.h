// Field numbers of the messages that are read and written by hand (lookup_messages.h): those of
// proto/engram/v1/lookup.proto. Constants.
#pragma once

#include <cstdint>

namespace engram::wire {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "packed fixed fields are copied as they lie");

namespace request {
enum : uint32_t {
  kTableSetId = 1,
  kBatchId = 2,
  kLayers = 3,
  kTokens = 4,
  kTimeout = 5,
  kCancel = 6,
  kAllowUnmaskedImages = 7
};
}
namespace row_ids {
enum : uint32_t { kLayer = 1, kIds32 = 2, kIds64 = 3, kColumns = 4 };
}
namespace column_slice {
enum : uint32_t { kRuns = 1 };
}
namespace column_run {
enum : uint32_t { kFirstColumn = 1, kColumns = 2 };
}
namespace token_batch {
enum : uint32_t {
  kLayers = 1,
  kTokenIds = 2,
  kDeadMask = 3,
  kSequenceTokens = 4,
  kSequenceLookback = 5,
  kColumns = 6,
  kSequenceWindows = 7
};
}
namespace response {
enum : uint32_t {
  kTableSetId = 1,
  kBatchId = 2,
  kLayers = 3,
  kCode = 4,
  kMessage = 5,
  kRetryAfter = 6,
  kLast = 7
};
}
namespace row_data {
enum : uint32_t { kLayer = 1, kRows = 2, kFirstRow = 3 };
}

}  // namespace engram::wire
