#include "memstore/gather/landing.h"

#include "absl/strings/str_cat.h"

namespace engram {

absl::StatusOr<uint64_t> LandingShape::Extent(uint64_t rows, uint64_t row_bytes) const {
  uint64_t group_bytes = 0;
  if (group_rows > 0 && (__builtin_mul_overflow(group_rows, row_bytes, &group_bytes) ||
                         group_stride_bytes < group_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a group of ", group_rows, " rows of ", row_bytes, " bytes does not fit a stride of ",
        group_stride_bytes, " bytes: give a stride of at least group_rows * row_bytes"));
  }
  if (rows == 0) return 0;
  const uint64_t groups = group_rows == 0 ? 0 : (rows - 1) / group_rows;
  uint64_t begin = 0, last = 0, extent = 0;
  if (__builtin_mul_overflow(groups, group_stride_bytes, &begin) ||
      __builtin_mul_overflow(rows - groups * group_rows, row_bytes, &last) ||
      __builtin_add_overflow(begin, last, &extent)) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows, " rows of ", row_bytes, " bytes in groups of ", group_rows,
                     " at a stride of ", group_stride_bytes, " bytes lie beyond any memory"));
  }
  return extent;
}

absl::StatusOr<uint64_t> Landing::Extent(uint64_t rows, uint64_t row_bytes) const {
  if (places.empty()) return shape().Extent(rows, row_bytes);
  if (places.size() != rows) {
    return absl::InvalidArgumentError(absl::StrCat("the landing lists ", places.size(),
                                                   " places for ", rows,
                                                   " rows: list one for each row, or none"));
  }
  const uint64_t last = *std::max_element(places.begin(), places.end());
  return shape().Extent(last + 1, row_bytes);
}

}  // namespace engram
