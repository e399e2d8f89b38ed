#include "gpu/simulator/backbone.h"

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "gmock/gmock.h"
#include "gpu/simulator/backbone_loop.h"
#include "gpu/simulator/cuda_backbone.h"
#include "gtest/gtest.h"

namespace engram::simulator {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kTokens = 5;
constexpr BackboneShape kShape{
    .hidden = 48, .blocks = 3, .query = 64, .key_value = 24, .feed_forward = 80};

// A block in double precision, as backbone.h describes it.
std::vector<double> Reference(const BackboneShape& shape, uint32_t tokens, uint32_t blocks) {
  const std::vector<uint16_t> weights = MakeBlockWeights(shape);
  const auto weight = [&](uint64_t at) { return double{FloatOfBf16(weights[at])}; };
  const uint32_t wide = shape.query + 2 * shape.key_value;
  const uint64_t output = uint64_t{shape.hidden} * wide;
  const uint64_t gate_up = output + uint64_t{shape.query} * shape.hidden;
  const uint64_t down = gate_up + uint64_t{shape.hidden} * 2 * shape.feed_forward;
  std::vector<double> all;
  for (uint32_t t = 0; t < tokens; ++t) {
    std::vector<double> hidden(shape.hidden);
    for (uint32_t c = 0; c < shape.hidden; ++c) hidden[c] = (c % 7) / 8.0 - 0.375;
    const auto product = [&](const std::vector<double>& left, uint32_t inputs, uint64_t first,
                             uint32_t outputs) {
      std::vector<double> out(outputs);
      for (uint32_t k = 0; k < inputs; ++k) {
        for (uint32_t c = 0; c < outputs; ++c) out[c] += left[k] * weight(first + k * outputs + c);
      }
      return out;
    };
    const auto add = [&](const std::vector<double>& change) {
      for (uint32_t c = 0; c < shape.hidden; ++c) {
        const double sum = hidden[c] + change[c];
        hidden[c] = sum / (1 + std::abs(sum));
      }
    };
    for (uint32_t block = 0; block < blocks; ++block) {
      add(product(product(hidden, shape.hidden, 0, wide), shape.query, output, shape.hidden));
      const auto both = product(hidden, shape.hidden, gate_up, 2 * shape.feed_forward);
      std::vector<double> middle(shape.feed_forward);
      for (uint32_t c = 0; c < shape.feed_forward; ++c)
        middle[c] = both[c] / (1 + std::exp(-both[c])) * both[shape.feed_forward + c];
      add(product(middle, shape.feed_forward, down, shape.hidden));
    }
    all.insert(all.end(), hidden.begin(), hidden.end());
  }
  return all;
}

class BackboneTest : public ::testing::TestWithParam<DeviceKind> {};

TEST_P(BackboneTest, ComputesWhatItSays) {
  absl::StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam(), {});
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  auto backbone = Backbone::Create(kShape, kTokens + 3, **device);
  ASSERT_TRUE(backbone.ok()) << backbone.status();
  const auto stream = (*device)->MakeStream("compute").value();
  for (uint32_t block = 0; block < kShape.blocks; ++block)
    ASSERT_TRUE((*backbone)->EnqueueBlock(kTokens, *stream).ok());
  const auto hidden = (*backbone)->Hidden(kTokens, *stream);
  ASSERT_TRUE(hidden.ok()) << hidden.status();
  const std::vector<double> expected = Reference(kShape, kTokens, kShape.blocks);
  ASSERT_EQ(hidden->size(), expected.size());
  // bf16 is rounded to after each of a block's six pieces.
  const double error = GetParam() == DeviceKind::kHost ? 1e-5 : 0.05;
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR((*hidden)[i], expected[i], error) << i;
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  EXPECT_GT(largest, 0.2);  // it did not vanish
}
INSTANTIATE_TEST_SUITE_P(Devices, BackboneTest,
                         ::testing::Values(DeviceKind::kHost, DeviceKind::kCuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::kHost ? "Host" : "Cuda";
                         });

// The published configurations' numbers of weights without embeddings.
TEST(ModelsTest, TheLargeOnesAreAsLargeAsTheyAreSaidToBe) {
  const auto weights = [](const char* name) {
    const Model model = FindModel(name).value();
    return static_cast<double>(model.shape.BlockWeights() * model.shape.blocks) / 1e9;
  };
  EXPECT_NEAR(weights("4b"), 3.6, 0.05);
  EXPECT_NEAR(weights("8b"), 6.95, 0.02);
  EXPECT_EQ(FindModel("v41")->shape.blocks, 40u);
  EXPECT_EQ(FindModel("v41")->shape.hidden, 5120u);
  EXPECT_EQ(FindModel("v41")->branches, 4u);
  EXPECT_THAT(std::string(FindModel("70b").status().message()), HasSubstr("small, 4b, 8b, v41"));
}

TEST(ModelsTest, ANarrowedModelKeepsItsBlocksAndIsComputedInTime) {
  for (const std::string& name : ModelNames()) {
    const BackboneShape shape = FindModel(name)->shape;
    const uint32_t divisor = HostDivisor(shape, 512);
    EXPECT_EQ(divisor == 1, name == "small") << divisor;
    EXPECT_EQ(shape.Narrowed(divisor).blocks, shape.blocks);
    EXPECT_LE(shape.Narrowed(divisor).StepFlops(512), 4e9);
    EXPECT_GE(shape.Narrowed(1024).key_value, 16u);
  }
}

TEST(CublasTest, SaysWhatIsMissingAndHowToGetIt) {
  const absl::Status status = FindCublas({"/no/such/directory"});
  if (status.ok()) GTEST_SKIP() << "the loader finds cuBLAS by itself";
  if (absl::IsUnimplemented(status)) GTEST_SKIP() << status.message();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("libcublas.so."));
  EXPECT_THAT(std::string(status.message()), HasSubstr("LD_LIBRARY_PATH"));
}

}  // namespace
}  // namespace engram::simulator
