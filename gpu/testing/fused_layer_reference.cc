#include "gpu/testing/fused_layer_reference.h"

#include <bit>
#include <cmath>

namespace engram::testing {
namespace {

double Value(uint16_t bf16) { return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16); }

// `count` values to double, from `first` on.
std::vector<double> Values(const uint16_t* first, size_t count) {
  std::vector<double> values;
  values.reserve(count);
  for (size_t i = 0; i < count; ++i) values.push_back(Value(first[i]));
  return values;
}

std::vector<double> RmsNorm(std::vector<double> x, const std::vector<double>& weight, double eps) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= scale * weight[i];
  return x;
}

std::vector<double> Times(const uint16_t* matrix, size_t outputs, const std::vector<double>& x) {
  std::vector<double> y(outputs);
  for (size_t o = 0; o < outputs; ++o) {
    for (size_t i = 0; i < x.size(); ++i) y[o] += Value(matrix[o * x.size() + i]) * x[i];
  }
  return y;
}

double Gate(FusedLayerKind kind, double dot) {
  const double root = std::sqrt(std::max(std::abs(dot), 1e-6));
  const double sign = kind == FusedLayerKind::kPaper && dot == 0 ? 0 : std::copysign(1.0, dot);
  return 1 / (1 + std::exp(-sign * root));
}

}  // namespace

std::vector<double> FusedLayerReference(const FusedLayerShape& shape,
                                        const FusedLayerWeights& weights,
                                        absl::Span<const uint16_t> rows,
                                        absl::Span<const uint16_t> hidden,
                                        absl::Span<const uint8_t> dead) {
  const size_t d = shape.hidden, tokens = rows.size() / shape.inputs;
  std::vector<double> out = Values(hidden.data(), hidden.size());
  for (size_t m = 0; m < shape.branches; ++m) {
    const std::vector<double> key_norm = Values(weights.key_norm + m * d, d);
    const std::vector<double> query_norm = Values(weights.query_norm + m * d, d);
    std::vector<std::vector<double>> u(tokens), seen(tokens);
    for (size_t t = 0; t < tokens; ++t) {
      const std::vector<double> e = Values(&rows[t * shape.inputs], shape.inputs);
      const std::vector<double> key =
          RmsNorm(Times(weights.key + m * d * shape.inputs, d, e), key_norm, shape.eps);
      const std::vector<double> query =
          RmsNorm(Values(&hidden[(t * shape.branches + m) * d], d), query_norm, shape.eps);
      double dot = 0;
      for (size_t c = 0; c < d; ++c) dot += key[c] * query[c];
      const bool is_dead = !dead.empty() && dead[t] != 0;
      const double gate = is_dead ? 0 : Gate(shape.kind, dot / std::sqrt(static_cast<double>(d)));
      u[t] = Times(weights.value, d, e);
      for (double& value : u[t]) value *= gate;
      if (shape.kind == FusedLayerKind::kPaper) {
        seen[t] = RmsNorm(u[t], Values(weights.conv_norm + m * d, d), shape.eps);
      }
    }
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t c = 0; c < d; ++c) {
        double y = u[t][c];
        double conv = 0;
        for (size_t tap = 0; shape.kind == FusedLayerKind::kPaper && tap < kConvKernel; ++tap) {
          const size_t back = (kConvKernel - 1 - tap) * shape.dilation;
          if (back <= t)
            conv += Value(weights.conv[(m * d + c) * kConvKernel + tap]) * seen[t - back][c];
        }
        y += conv / (1 + std::exp(-conv));
        out[(t * shape.branches + m) * d + c] += y;
      }
    }
  }
  return out;
}

}  // namespace engram::testing
