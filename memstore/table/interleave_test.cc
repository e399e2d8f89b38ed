#include "memstore/table/interleave.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(InterleaveTest, JoinsRowByRow) {
  // More rows than are joined at a time, and not a multiple of them.
  constexpr size_t kRows = 71;
  for (const std::vector<uint32_t>& widths : std::vector<std::vector<uint32_t>>{
           {256, 8}, {64, 2}, {5, 3}, {8, 256}, {80, 10, 1}, {7}, {8, 8, 256, 4}}) {
    std::vector<std::vector<std::byte>> tensors;
    std::vector<PartRows> parts;
    size_t row_bytes = 0;
    for (const uint32_t width : widths) {
      tensors.emplace_back(kRows * width);
      for (size_t i = 0; i < tensors.back().size(); ++i) {
        tensors.back()[i] = std::byte(i * 7 + i / 256 + tensors.size() * 13);
      }
      row_bytes += width;
    }
    for (size_t i = 0; i < widths.size(); ++i) parts.push_back({tensors[i].data(), widths[i]});
    std::vector<std::byte> want;
    for (size_t row = 0; row < kRows; ++row) {
      for (size_t i = 0; i < widths.size(); ++i) {
        const auto from = tensors[i].begin() + row * widths[i];
        want.insert(want.end(), from, from + widths[i]);
      }
    }
    // A row more of room than there are whole rows is not written beyond them.
    std::vector<std::byte> out(kRows * row_bytes + row_bytes - 1, std::byte{0xee});
    InterleaveRows(parts, absl::MakeSpan(out));
    want.resize(out.size(), std::byte{0xee});
    EXPECT_EQ(out, want) << widths.size() << " parts, the first of " << widths[0];
  }
}

}  // namespace
}  // namespace engram
