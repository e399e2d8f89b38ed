// For tests of what layers read once their rows were dequantised on arrival.
#pragma once

#include <vector>

#include "gpu/kernels/dequantize.h"
#include "gpu/testing/small_steps.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram::testing {

// The layer at `index`: every row of the step's dequantised at its place, by the host.
inline std::vector<uint16_t> DequantizedRows(const SmallStep& step, size_t index) {
  const LayerTableSpec& layer = SmallV41()->manifest().layers[index];
  std::vector<std::byte> rows(step.row_ids[index].size() * layer.row_bytes);
  for (size_t i = 0; i < step.row_ids[index].size(); ++i) {
    SyntheticRow(layer.layer, step.row_ids[index][i],
                 {&rows[i * layer.row_bytes], layer.row_bytes});
  }
  std::vector<uint16_t> values(step.row_ids[index].size() * layer.encoding.dim);
  const Dequantizer dequantizer = Dequantizer::Create(layer.encoding).value();
  EXPECT_TRUE(dequantizer
                  .Run({.rows = rows.data(),
                        .row_count = static_cast<uint32_t>(step.row_ids[index].size()),
                        .tokens = step.tokens(),
                        .columns = SmallV41()->manifest().scheme.Columns(),
                        .out = values.data()})
                  .ok());
  return values;
}

}  // namespace engram::testing
