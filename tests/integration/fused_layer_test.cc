// From token ids to hidden states: the same, bit for bit, whichever way the rows come.
//
// Synthetic rows are any bits, so that most would be infinities and NaNs; their exponents are set
// to one, and signs and mantissas go through the layer.
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "client/client.h"
#include "gpu/kernels/dequantize.h"
#include "gpu/testing/fused_layer_fixture.h"
#include "gpu/testing/fused_layer_reference.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

constexpr size_t kTokens = 24;
constexpr uint32_t kHidden = 64;

// A layer's rows out of [tokens, layers, columns * row_bytes], as the layer reads them.
std::vector<uint16_t> LayerInput(const Manifest& manifest, size_t layer, const std::string& rows) {
  const uint32_t columns = manifest.scheme.Columns();
  const LayerTableSpec& spec = manifest.layers[layer];
  uint64_t offset = 0;
  for (size_t i = 0; i < layer; ++i) offset += uint64_t{columns} * manifest.layers[i].row_bytes;
  std::string own;
  for (size_t t = 0; t < kTokens; ++t) {
    own += rows.substr(t * TokenBytes(manifest) + offset, uint64_t{columns} * spec.row_bytes);
  }
  const auto dequantizer = Dequantizer::Create(spec.encoding);
  EXPECT_TRUE(dequantizer.ok()) << dequantizer.status();
  std::vector<uint16_t> input(kTokens * columns * dequantizer->dim());
  const absl::Status status =
      dequantizer->Run({.rows = reinterpret_cast<const std::byte*>(own.data()),
                        .row_count = static_cast<uint32_t>(kTokens * columns),
                        .tokens = kTokens,
                        .columns = columns,
                        .out = input.data()});
  EXPECT_TRUE(status.ok()) << status;
  for (uint16_t& value : input) value = static_cast<uint16_t>((value & 0x807f) | 0x3f00);
  return input;
}

class FusedLayerEndToEndTest : public ::testing::TestWithParam<const char*> {};

TEST_P(FusedLayerEndToEndTest, HiddenStatesAreTheSameWhicheverWayTheRowsCome) {
  ScratchDirectory scratch;
  PackSmallSet(GetParam(), 500, scratch / "set");
  EngramdProcess engramd(
      {"--table-set", scratch / "set", "--listen", "127.0.0.1:0", "--shm-socket", scratch / "shm"});
  const std::string address = engramd.WaitUntilServing();
  ASSERT_TRUE(engramd.WaitForLine("shared memory at"));
  const std::vector<int32_t> token_ids = RealTokenIds(kTokens);
  const std::unique_ptr<Device> device = OpenDevice(DeviceKind::kHost, {}).value();

  struct Layer {
    std::unique_ptr<testing::FusedLayerFixture> fixture;
    std::vector<uint16_t> hidden, expected;
  };
  std::vector<Layer> layers;
  const bool has_conv = std::string(GetParam()) != "deepseek-v4.1-flash";
  for (const std::string& target :
       {"embedded:" + (scratch / "set"), "shm:" + (scratch / "shm"), "grpc:" + address}) {
    const auto client = Client::Attach(target, {});
    ASSERT_TRUE(client.ok()) << client.status();
    const Manifest& manifest = (*client)->table_set();
    const bool first = layers.empty();
    layers.resize(manifest.layers.size());
    for (size_t l = 0; l < layers.size(); ++l) {
      const FusedLayerShape shape{
          .kind = has_conv ? FusedLayerKind::kPaper : FusedLayerKind::kDeepSeekV41,
          .inputs = manifest.scheme.Columns() * manifest.layers[l].encoding.dim,
          .hidden = kHidden,
          .branches = 4,
          .eps = 1e-6f,
          .dilation = has_conv ? manifest.scheme.max_order : 0};
      const auto step = [&](const std::string& rows) {
        std::vector<float> past(layers[l].fixture->layer().PastFloats());
        return layers[l].fixture->Step(LayerInput(manifest, l, rows), layers[l].hidden,
                                       {0, kTokens}, {}, &past);
      };
      if (first) {
        layers[l].fixture = std::make_unique<testing::FusedLayerFixture>(shape, *device, kTokens);
        std::mt19937 random(static_cast<uint32_t>(l));
        layers[l].hidden = testing::RandomBf16(random, kTokens * 4 * kHidden, 1);
        // A plain array, made from the rule by which rows prove themselves.
        const std::string plain = ExpectedRows(manifest, (*client)->addresser(), token_ids);
        layers[l].expected = step(plain);
        const std::vector<double> exact =
            testing::FusedLayerReference(shape, layers[l].fixture->host_weights(),
                                         LayerInput(manifest, l, plain), layers[l].hidden, {});
        for (size_t i = 0; i < exact.size(); ++i) {
          const float got = FloatOfBf16(layers[l].expected[i]);
          ASSERT_NEAR(got, exact[i], std::abs(exact[i]) * 0x1p-8 + 1e-4) << l << " " << i;
        }
      }
      const auto rows = LookUp(**client, token_ids, RealClock().Now() + absl::Seconds(30));
      ASSERT_TRUE(rows.ok()) << target << ": " << rows.status();
      EXPECT_EQ(step(*rows), layers[l].expected) << target << ", layer " << l;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FusedLayerEndToEndTest,
                         ::testing::Values("deepseek-v4.1-flash", "engram-demo-v1", "engram-27b"),
                         [](const auto& family) {
                           std::string name = family.param;
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace engram::integration
