#include "gpu/kernels/fused_layer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gpu/testing/fused_layer_fixture.h"
#include "gpu/testing/fused_layer_reference.h"

namespace engram {
namespace {

using testing::FusedLayerFixture;
using ::testing::HasSubstr;
using testing::RandomBf16;

constexpr FusedLayerShape kPaperLayer{.kind = FusedLayerKind::kPaper,
                                      .inputs = 96,
                                      .hidden = 72,
                                      .branches = 3,
                                      .eps = 1e-5f,
                                      .dilation = 3};
constexpr FusedLayerShape kV41Layer{.kind = FusedLayerKind::kDeepSeekV41,
                                    .inputs = 100,
                                    .hidden = 65,
                                    .branches = 4,
                                    .eps = 1e-20f};

struct Case {
  const char* name;
  FusedLayerShape shape;
};

class FusedLayerTest : public ::testing::TestWithParam<std::tuple<DeviceKind, Case>> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenDevice(std::get<0>(GetParam()), {});
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
  }
  const FusedLayerShape& shape() const { return std::get<1>(GetParam()).shape; }
  bool is_paper() const { return shape().kind == FusedLayerKind::kPaper; }
  size_t HiddenOf(size_t tokens) const { return tokens * shape().branches * shape().hidden; }

  std::unique_ptr<Device> device_;
};

// Within the rounding to bf16 of the exact result, and fp32's of the sums before it.
void ExpectNear(const std::vector<uint16_t>& got, const std::vector<double>& exact) {
  ASSERT_EQ(got.size(), exact.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(FloatOfBf16(got[i]), exact[i], std::abs(exact[i]) * 0x1p-8 + 2e-5) << i;
  }
}

TEST_P(FusedLayerTest, IsWithinBf16OfTheReference) {
  constexpr size_t kTokens = 40;
  std::mt19937 random(1);
  FusedLayerFixture fixture(shape(), *device_, kTokens);
  const std::vector<uint16_t> rows = RandomBf16(random, kTokens * shape().inputs, 1);
  const std::vector<uint16_t> hidden = RandomBf16(random, HiddenOf(kTokens), 1);
  std::vector<uint8_t> dead(is_paper() ? 0 : kTokens);
  for (uint8_t& one : dead) one = random() % 4 == 0;
  std::vector<float> past(fixture.layer().PastFloats());
  const std::vector<uint16_t> got = fixture.Step(rows, hidden, {0, kTokens}, dead, &past);
  ExpectNear(got,
             testing::FusedLayerReference(shape(), fixture.host_weights(), rows, hidden, dead));
  for (size_t t = 0; t < dead.size(); ++t) {
    if (dead[t] == 0) continue;
    EXPECT_TRUE(
        std::equal(&got[HiddenOf(t)], &got[HiddenOf(t)] + HiddenOf(1), &hidden[HiddenOf(t)]))
        << t;
  }
}

// Sequences of different lengths, cut into chunks and single tokens at random, side by side.
TEST_P(FusedLayerTest, ChunksAndStepsGiveBitForBitWhatWholeSequencesGive) {
  constexpr size_t kSequences = 5, kLongest = 61;
  std::mt19937 random(2);
  FusedLayerFixture fixture(shape(), *device_, kSequences * kLongest);
  struct Sequence {
    std::vector<uint16_t> rows, hidden, whole, stepwise;
    size_t length, done = 0;
  };
  std::vector<Sequence> sequences(kSequences);
  const uint64_t floats = fixture.layer().PastFloats();
  for (Sequence& sequence : sequences) {
    sequence.length = 1 + random() % kLongest;
    sequence.rows = RandomBf16(random, sequence.length * shape().inputs, 1);
    sequence.hidden = RandomBf16(random, HiddenOf(sequence.length), 1);
    std::vector<float> past(floats);
    sequence.whole = fixture.Step(sequence.rows, sequence.hidden,
                                  {0, static_cast<uint32_t>(sequence.length)}, {}, &past);
  }
  std::vector<float> past(kSequences * floats);
  const auto left = [&] {
    return std::any_of(sequences.begin(), sequences.end(),
                       [](const auto& s) { return s.done < s.length; });
  };
  while (left()) {
    std::vector<uint16_t> rows, hidden;
    std::vector<uint32_t> starts = {0};
    std::vector<size_t> taken;
    for (Sequence& sequence : sequences) {
      const size_t most = random() % 3 == 0 ? 20 : random() % 2;  // a chunk, a step, or nothing
      taken.push_back(std::min(most, sequence.length - sequence.done));
      const auto part = [&](const std::vector<uint16_t>& all, size_t each,
                            std::vector<uint16_t>* to) {
        to->insert(to->end(), all.begin() + sequence.done * each,
                   all.begin() + (sequence.done + taken.back()) * each);
      };
      part(sequence.rows, shape().inputs, &rows);
      part(sequence.hidden, HiddenOf(1), &hidden);
      starts.push_back(starts.back() + static_cast<uint32_t>(taken.back()));
    }
    if (starts.back() == 0) continue;
    const std::vector<uint16_t> got = fixture.Step(rows, hidden, starts, {}, &past);
    for (size_t s = 0; s < kSequences; ++s) {
      const auto begin = got.begin() + static_cast<ptrdiff_t>(HiddenOf(starts[s]));
      sequences[s].stepwise.insert(sequences[s].stepwise.end(), begin, begin + HiddenOf(taken[s]));
      sequences[s].done += taken[s];
    }
  }
  for (const Sequence& sequence : sequences) EXPECT_EQ(sequence.stepwise, sequence.whole);
}

TEST_P(FusedLayerTest, AShutGateLeavesHiddenStatesAsTheyAre) {
  std::mt19937 random(3);
  FusedLayerFixture fixture(shape(), *device_, 4);
  // Rows that did not come are any bits at all.
  const std::vector<uint16_t> rows(4 * shape().inputs, 0x3f80),
      hidden = RandomBf16(random, HiddenOf(4), 1);
  std::vector<float> past(fixture.layer().PastFloats());
  EXPECT_EQ(fixture.Step(rows, hidden, {0, 4}, {}, &past, /*open=*/0), hidden);
  EXPECT_NE(fixture.Step(rows, hidden, {0, 4}, {}, &past), hidden);
}

TEST_P(FusedLayerTest, ADotOfZeroIsWhatItsKindSays) {
  FusedLayerFixture fixture(shape(), *device_, 1);
  std::mt19937 random(4);
  // Hidden states of 0 have a dot of 0.
  const std::vector<uint16_t> rows = RandomBf16(random, shape().inputs, 1), hidden(HiddenOf(1), 0);
  std::vector<float> past(fixture.layer().PastFloats());
  const std::vector<uint16_t> got = fixture.Step(rows, hidden, {0, 1}, {}, &past);
  ExpectNear(got, testing::FusedLayerReference(shape(), fixture.host_weights(), rows, hidden, {}));
}

TEST_P(FusedLayerTest, RefusesWhatItCanNotRun) {
  FusedLayerFixture fixture(shape(), *device_, 8);
  uint16_t half = 0;
  uint32_t starts[] = {0, 9};
  float past = 0;
  FusedLayerBatch batch{
      .rows = &half, .hidden = &half, .starts = starts, .past = &past, .sequences = 1, .tokens = 9};
  const auto error = [&] {
    return std::string(fixture.layer().Enqueue(batch, fixture.stream()).message());
  };
  EXPECT_THAT(error(), HasSubstr("made for 8"));
  batch.tokens = 8;
  batch.rows = nullptr;
  EXPECT_THAT(error(), HasSubstr("needs rows"));
  const auto created = [&](FusedLayerShape wrong, const FusedLayerWeights& weights) {
    return std::string(FusedLayer::Create(wrong, weights, *device_, 8).status().message());
  };
  FusedLayerShape wrong = shape();
  wrong.dilation = is_paper() ? 0 : 3;
  EXPECT_THAT(created(wrong, fixture.host_weights()), HasSubstr("dilation"));
  wrong = shape();
  wrong.hidden = 0;
  EXPECT_THAT(created(wrong, fixture.host_weights()), HasSubstr("hidden"));
  EXPECT_THAT(created(shape(), {}), HasSubstr("weight is missing"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, FusedLayerTest,
                         ::testing::Combine(::testing::Values(DeviceKind::kHost, DeviceKind::kCuda),
                                            ::testing::Values(Case{"Paper", kPaperLayer},
                                                              Case{"V41", kV41Layer})),
                         [](const auto& info) {
                           const bool is_host = std::get<0>(info.param) == DeviceKind::kHost;
                           return std::string(is_host ? "Host" : "Cuda") +
                                  std::get<1>(info.param).name;
                         });

}  // namespace
}  // namespace engram
