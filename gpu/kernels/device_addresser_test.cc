#include "gpu/kernels/device_addresser.h"

#include <cstring>
#include <random>

#include "gmock/gmock.h"
#include "gpu/testing/address_bench.h"
#include "gtest/gtest.h"
#include "memstore/addressing/head_slice.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

// Sequences that go on from batch to batch: prefill chunks, decode steps, drafts of which some are
// accepted, and nothing at all; every batch is held against the CPU's addresser.
class RaggedSteps {
 public:
  RaggedSteps(std::shared_ptr<const Addresser> addresser, Device& device, uint64_t seed,
              std::vector<ColumnSlice> slices = {})
      : addresser_(addresser),
        bench_(addresser, device, {}, slices),
        slices_(std::move(slices)),
        random_(seed),
        states_(kMaxSequences, Addresser::Start()) {
    slices_.resize(addresser_->scheme().layers.size(),
                   ColumnSlice::All(addresser_->scheme().Columns()));
  }

  // One batch; how many windows it had.
  uint64_t Step() {
    HostBatch batch;
    for (const SequenceState& state : states_) {
      std::vector<uint32_t> words(bench_.addresser().lookback());
      EXPECT_TRUE(bench_.addresser().WriteLookback(state, words.data()).ok());
      batch.lookback.insert(batch.lookback.end(), words.begin(), words.end());
      AppendTokens(&batch);
    }
    uint64_t error = 1;
    EXPECT_EQ(bench_.Address(batch, &error), ByCpu(batch));
    EXPECT_EQ(error, 0u);
    Commit(batch);
    return batch.ids.size();
  }

 private:
  void AppendTokens(HostBatch* batch) {
    const AddressScheme& scheme = addresser_->scheme();
    const uint64_t kind = random_() % 16;
    const uint64_t tokens = kind == 0 ? random_() % 900 : kind < 4 ? 6 : kind < 6 ? 0 : 1;
    const auto vocab = static_cast<int32_t>(scheme.vocab_size);
    const auto reset = static_cast<int32_t>(scheme.reset_token_id.value_or(1));
    for (uint64_t t = 0; t < tokens; ++t) {
      const uint64_t drawn = random_();
      const bool dead = scheme.dead_positions && drawn % 64 < 5;
      const int32_t extremes[] = {0, vocab - 1, reset, reset};
      batch->ids.push_back(dead             ? -1
                           : drawn / 64 % 8 ? static_cast<int32_t>(drawn / 512 % scheme.vocab_size)
                                            : extremes[drawn / 512 % 4]);
      if (scheme.dead_positions) batch->dead.push_back(dead ? drawn >> 56 | 1 : 0);
    }
    batch->starts.push_back(static_cast<uint32_t>(batch->ids.size()));
  }

  absl::Span<const int32_t> Ids(const HostBatch& batch, size_t s) const {
    return absl::MakeSpan(batch.ids).subspan(batch.starts[s],
                                             batch.starts[s + 1] - batch.starts[s]);
  }
  absl::Span<const uint8_t> Dead(const HostBatch& batch, size_t s, size_t count) const {
    if (batch.dead.empty()) return {};
    return absl::MakeSpan(batch.dead).subspan(batch.starts[s], count);
  }

  std::vector<RowId> ByCpu(const HostBatch& batch) {
    const AddressScheme& scheme = addresser_->scheme();
    std::vector<size_t> begins = {0};
    for (const ColumnSlice& slice : slices_) {
      begins.push_back(begins.back() + batch.ids.size() * slice.columns());
    }
    std::vector<RowId> rows(begins.back());
    for (size_t s = 0; s < states_.size(); ++s) {
      std::vector<LayerRowIdsOutput> outputs;
      for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
        const uint32_t columns = slices_[l].columns();
        outputs.push_back({.layer_index = l,
                           .rows = rows.data() + begins[l] + batch.starts[s] * columns,
                           .token_stride = columns,
                           .slice = &slices_[l]});
      }
      const auto ids = Ids(batch, s);
      const absl::Status status =
          addresser_->Address(states_[s], ids, Dead(batch, s, ids.size()), outputs);
      EXPECT_TRUE(status.ok()) << status;
    }
    return rows;
  }

  // Accepts some of each sequence's tokens, on both sides.
  void Commit(const HostBatch& batch) {
    std::vector<uint32_t> accepted;
    for (size_t s = 0; s < states_.size(); ++s) {
      const auto ids = Ids(batch, s);
      const bool are_drafts = ids.size() == 6;
      accepted.push_back(static_cast<uint32_t>(are_drafts ? random_() % 7 : ids.size()));
      const absl::Status status =
          addresser_->Advance(ids.first(accepted[s]), Dead(batch, s, accepted[s]), &states_[s]);
      EXPECT_TRUE(status.ok()) << status;
    }
    std::vector<uint32_t> expected(batch.lookback.size());
    for (size_t s = 0; s < states_.size(); ++s) {
      uint32_t* const words = &expected[s * bench_.addresser().lookback()];
      EXPECT_TRUE(bench_.addresser().WriteLookback(states_[s], words).ok());
    }
    uint64_t error = 1;
    EXPECT_EQ(bench_.Advance(batch, accepted, &error), expected);
    EXPECT_EQ(error, 0u);
  }

  std::shared_ptr<const Addresser> addresser_;
  Bench bench_;
  std::vector<ColumnSlice> slices_;  // of each layer
  std::mt19937_64 random_;
  std::vector<SequenceState> states_;
};

class DeviceAddresserTest : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam(), {});
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
  }
  std::unique_ptr<Device> device_;
};

// All families together: more than ten million windows.
TEST_P(DeviceAddresserTest, TenMillionWindowsOfRaggedBatchesEqualTheCpusAddresser) {
  uint64_t windows = 0;
  for (const Family& family : Families()) {
    SCOPED_TRACE(family.name);
    RaggedSteps steps(AddresserFor(DeriveOrDie(family.name)), *device_, 11);
    const uint64_t until = windows + 10'000'000 / Families().size() + 1;
    while (windows < until && !HasFailure()) windows += steps.Step();
  }
  EXPECT_GE(windows, 10'000'000u);
}

AddressScheme OddScheme(bool polynomial, uint32_t order) {
  AddressScheme scheme;
  scheme.family = "odd";
  scheme.combine = polynomial ? Combine::kPolynomial : Combine::kXorOfProducts;
  scheme.max_order = order;
  scheme.heads_per_order = 9;
  scheme.vocab_size = 1000;
  scheme.pad_id = 999;
  scheme.reset_token_id = 5;
  scheme.dead_positions = true;
  scheme.radix = polynomial ? 1000u : 0u;
  std::mt19937_64 random(order);
  for (const uint32_t number : {3u, 4u, 9u}) {
    LayerAddressing layer;
    layer.layer = number;
    for (uint32_t k = 0; k < order && !polynomial; ++k) {
      layer.multipliers.push_back(static_cast<int64_t>(random() >> 12 | 1));
    }
    for (uint32_t c = 0; c < scheme.Columns(); ++c) {
      layer.offsets.push_back(layer.Rows());
      layer.moduli.push_back(c == 1 ? 1 : random() % (uint64_t{1} << (c % 3 == 0 ? 32 : 14)) + 1);
    }
    scheme.layers.push_back(layer);
  }
  return scheme;
}

// Moduli of one row and of 2^31 and more, orders up to eight, columns that do not fill a block.
TEST_P(DeviceAddresserTest, OddSchemesEqualTheCpusAddresserToo) {
  for (const bool polynomial : {false, true}) {
    for (const uint32_t order : {2u, 5u, 8u}) {
      const AddressScheme scheme = OddScheme(polynomial, order);
      RaggedSteps steps(Addresser::Create(scheme, nullptr).value(), *device_, order);
      for (int i = 0; i < 3; ++i) steps.Step();
    }
  }
}

// Layers of differing slices, of no columns, of one, of those of all orders, and of all.
TEST_P(DeviceAddresserTest, SlicesEqualTheCpusAddressersSlices) {
  for (const bool polynomial : {false, true}) {
    const auto cpu = Addresser::Create(OddScheme(polynomial, 5), nullptr).value();
    const auto of = [](std::vector<ColumnRun> runs, std::optional<uint32_t> layer = {}) {
      return ColumnSlice::Create(runs, 36, layer).value();
    };
    const ColumnSlice none = of({}), one = of({{17, 1}}), all = ColumnSlice::All(36);
    const ColumnSlice heads = SliceOfHeads(cpu->scheme(), 2, 3).value();
    const ColumnSlice uneven = of({{0, 1}, {7, 4}, {20, 16}}, 4);
    const std::vector<ColumnSlice> ways[] = {
        {heads, heads, heads}, {none, uneven, one}, {one, none, all}, {all, uneven, none},
        {one, one, one},       {none, none, none},  {all, all, all}};
    for (const std::vector<ColumnSlice>& slices : ways) {
      RaggedSteps steps(cpu, *device_, 5, slices);
      for (int i = 0; i < 3; ++i) steps.Step();
    }
  }
}

TEST_P(DeviceAddresserTest, SlicesThatAreNotTheLayersAreRefused) {
  const auto cpu = Addresser::Create(OddScheme(false, 5), nullptr).value();
  const auto refused = [&](std::vector<ColumnSlice> slices) {
    const absl::Status status =
        DeviceAddresser::Create(
            cpu, *device_,
            {.max_tokens = 8, .max_sequences = 8, .layers = {3, 9}, .slices = slices})
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const ColumnSlice all = ColumnSlice::All(36);
  EXPECT_THAT(refused({all}), HasSubstr("there are 1 slices for 2 layers"));
  EXPECT_THAT(refused({all, ColumnSlice::All(24)}),
              HasSubstr("slices[1]: a slice of a layer of 24"));
  const std::vector<ColumnRun> runs = {{0, 2}};
  EXPECT_THAT(refused({ColumnSlice::Create(runs, 36, 9).value(), all}),
              HasSubstr("slices[0]: a slice of layer 9 was given for layer 3"));
}

TEST_P(DeviceAddresserTest, AStateOfAnotherSetWritesNoLookback) {
  const ShortSetId mine = ShortSetId::Of(std::string(64, 'a'));
  const AddressScheme scheme = OddScheme(false, 5);
  Bench bench(Addresser::Create(scheme, nullptr, mine).value(), *device_);
  SequenceState state = Addresser::Start();
  const auto other = Addresser::Create(scheme, nullptr, ShortSetId::Of(std::string(64, 'b')));
  ASSERT_TRUE((*other)->Advance(std::vector<int32_t>{7, 8, 9}, {}, &state).ok());
  std::vector<uint32_t> words(4, 12345);
  const absl::Status status = bench.addresser().WriteLookback(state, words.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("aaaaaaaaaaaaaaaa"));
  state.set = mine;
  state.ids[1] = 1000;  // the vocabulary's size
  EXPECT_EQ(bench.addresser().WriteLookback(state, words.data()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(words, std::vector<uint32_t>(4, 12345));
  state.ids[1] = 8;
  EXPECT_TRUE(bench.addresser().WriteLookback(state, words.data()).ok());
  EXPECT_EQ(words, (std::vector<uint32_t>{9, 8, 7, kBlockedEntry}));
}

TEST_P(DeviceAddresserTest, SomeLayersGetWhatTheyHaveAmongAll) {
  const auto cpu = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  Bench all(cpu, *device_), second(cpu, *device_, {14});
  const HostBatch batch = OneSequence(all.addresser(), {7, 8, 9});
  uint64_t error;
  const std::vector<RowId> rows = all.Address(batch, &error);
  EXPECT_EQ(second.Address(batch, &error), std::vector<RowId>(rows.begin() + 3 * 24, rows.end()));
}

TEST_P(DeviceAddresserTest, ABadIdIsNamedAndWhatSeesItHasNoRow) {
  Bench bench(AddresserFor(DeriveOrDie("deepseek-v4.1-flash")), *device_);
  for (const int32_t bad : {-1, 129280, INT32_MIN, INT32_MAX}) {
    HostBatch batch = OneSequence(bench.addresser(), std::vector<int32_t>(300, 9));
    uint64_t error;
    const std::vector<RowId> good_rows = bench.Address(batch, &error);
    batch.ids[200] = batch.ids[290] = bad;
    const std::vector<RowId> rows = bench.Address(batch, &error);
    const absl::Status status = bench.addresser().StatusOf(error);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("position 200 "));
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t token = i / 24 % 300;
      const bool sees_bad = (token >= 200 && token < 204) || (token >= 290 && token < 294);
      ASSERT_EQ(rows[i], sees_bad ? kNoRow : good_rows[i]) << i;
    }
    bench.Advance(batch, {292}, &error);  // its last three include the second bad one
    EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()),
                HasSubstr("position 290 "));
  }
}

TEST_P(DeviceAddresserTest, AnImagesTokenIsTakenDeadAndRefusedLive) {
  constexpr int32_t kImages[] = {129264, 129268};
  const AddressScheme scheme = DeriveOrDie("deepseek-v4.1-flash");
  const auto cpu = Addresser::Create(scheme, MapFor(scheme), {}, kImages).value();
  Bench bench(cpu, *device_), plain(AddresserFor(scheme), *device_);
  HostBatch batch = OneSequence(bench.addresser(), std::vector<int32_t>(300, 9));
  batch.ids[100] = 129266;  // between two of them
  batch.ids[200] = 129264;
  batch.ids[290] = 129268;
  uint64_t error;
  const std::vector<RowId> expected = plain.Address(batch, &error);
  EXPECT_TRUE(plain.addresser().StatusOf(error).ok());
  const std::vector<RowId> rows = bench.Address(batch, &error);
  const std::string refused(bench.addresser().StatusOf(error).message());
  EXPECT_THAT(refused, HasSubstr("position 200 "));
  EXPECT_THAT(refused, HasSubstr("mark it in the dead mask"));
  EXPECT_THAT(refused, HasSubstr("allow_unmasked_images"));
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t token = i / 24 % 300;
    const bool sees_one = (token >= 200 && token < 204) || (token >= 290 && token < 294);
    ASSERT_EQ(rows[i], sees_one ? kNoRow : expected[i]) << i;
  }
  EXPECT_EQ(bench.Advance(batch, {292}, &error), batch.lookback);
  EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()), HasSubstr("position 290 "));
  batch.dead.assign(300, 0);
  batch.dead[200] = batch.dead[290] = 1;
  EXPECT_EQ(bench.Address(batch, &error), plain.Address(batch, &error));
  bench.Address(batch, &error);
  EXPECT_TRUE(bench.addresser().StatusOf(error).ok());
}

TEST_P(DeviceAddresserTest, AForeignLookbackIsNamed) {
  Bench bench(AddresserFor(DeriveOrDie("deepseek-v4.1-flash")), *device_);
  HostBatch batch = OneSequence(bench.addresser(), {1, 2});
  batch.lookback[0] = 99092;  // the compressed vocabulary's size
  uint64_t error;
  EXPECT_EQ(bench.Address(batch, &error)[0], kNoRow);
  EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()), HasSubstr("lookback"));
  EXPECT_EQ(bench.Advance(batch, {1}, &error), batch.lookback);
  EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()), HasSubstr("lookback"));
}

TEST_P(DeviceAddresserTest, StartsThatDoNotAscendAreSaidSo) {
  Bench bench(AddresserFor(DeriveOrDie("deepseek-v4.1-flash")), *device_);
  const std::vector<uint32_t> wrong[] = {{1, 3, 6}, {0, 4, 5},         {0, 7, 6},
                                         {0, 3, 7}, {6, 3, 0},         {0, UINT32_MAX, 6},
                                         {3, 3, 3}, {UINT32_MAX, 0, 6}};
  for (const std::vector<uint32_t>& starts : wrong) {
    HostBatch batch = OneSequence(bench.addresser(), {1, 2, 3, 4, 5, 6});
    batch.starts = starts;
    batch.lookback.resize(6, kBlockedEntry);
    uint64_t error = 0;
    bench.Address(batch, &error);
    EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()), HasSubstr("starts"));
    bench.Advance(batch, {}, &error);
    EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()), HasSubstr("starts"));
  }
  HostBatch batch = OneSequence(bench.addresser(), {1, 2, 3});
  uint64_t error;
  EXPECT_EQ(bench.Advance(batch, {4}, &error), batch.lookback);
  EXPECT_THAT(std::string(bench.addresser().StatusOf(error).message()), HasSubstr("accepted"));
}

TEST_P(DeviceAddresserTest, RefusesWhatItSeesBeforeTheLaunch) {
  const auto cpu = AddresserFor(DeriveOrDie("qwen4-exp"));
  const auto created = [&](DeviceAddresserOptions options) {
    return std::string(DeviceAddresser::Create(cpu, *device_, options).status().message());
  };
  EXPECT_THAT(created({.max_tokens = 8, .max_sequences = 8, .layers = {2}}), HasSubstr("layer 2"));
  EXPECT_THAT(created({.max_sequences = 8}), HasSubstr("max_tokens"));
  const auto made =
      DeviceAddresser::Create(cpu, *device_, {.max_tokens = 8, .max_sequences = 2}).value();
  const auto stream = device_->MakeStream("test").value();
  const int32_t id = 0;
  const uint8_t dead = 0;
  const uint32_t word = 0;
  RowId row;
  uint64_t error = 0;
  const AddressTokens good{
      .token_ids = &id, .starts = &word, .lookback = &word, .sequences = 1, .tokens = 1};
  const auto refused = [&](AddressTokens batch) {
    return std::string(made->EnqueueAddress(batch, &row, &error, *stream).message());
  };
  AddressTokens batch = good;
  batch.tokens = 9;
  EXPECT_THAT(refused(batch), HasSubstr("9 tokens"));
  batch = good;
  batch.sequences = 3;
  EXPECT_THAT(refused(batch), HasSubstr("3 sequences"));
  batch.sequences = 0;
  EXPECT_THAT(refused(batch), HasSubstr("needs the sequences"));
  batch = good;
  batch.dead = &dead;
  EXPECT_THAT(refused(batch), HasSubstr("no dead positions"));
  batch = good;
  batch.starts = nullptr;
  EXPECT_THAT(refused(batch), HasSubstr("starts"));
  EXPECT_FALSE(made->EnqueueAddress(good, &row, nullptr, *stream).ok());
  EXPECT_FALSE(made->EnqueueAdvance(good, nullptr, nullptr, &error, *stream).ok());
  EXPECT_TRUE(made->EnqueueAddress({}, nullptr, nullptr, *stream).ok());  // nothing to do
  EXPECT_TRUE(made->StatusOf(0).ok());
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceAddresserTest,
                         testing::Values(DeviceKind::kHost, DeviceKind::kCuda),
                         [](const auto& tested) {
                           return tested.param == DeviceKind::kHost ? "Host" : "Cuda";
                         });

// The kernel's division of a tile among threads: whatever it is, each row id is written once.
TEST(AddressLoopTest, AnyNumberOfRowsAtOnceWritesEveryRowId) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  for (const char* const family : {"deepseek-v4.1-flash", "longcat-flash-lite"}) {
    Bench bench(AddresserFor(DeriveOrDie(family)), *device);
    std::vector<int32_t> ids(kAddressTile);
    std::mt19937 random(3);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 100000);
    const HostBatch host = OneSequence(bench.addresser(), ids);
    uint64_t error;
    const std::vector<RowId> expected = bench.Address(host, &error);
    const AddressTables& tables = bench.addresser().tables();
    const AddressTokens batch{.token_ids = host.ids.data(),
                              .starts = host.starts.data(),
                              .lookback = host.lookback.data(),
                              .sequences = 1,
                              .tokens = kAddressTile};
    AddressTile tile;
    for (const uint32_t at_once : {1u, 2u, 10u, 21u, 200u}) {
      std::vector<RowId> rows(expected.size(), 12345);
      for (uint32_t layer = 0; layer < tables.layers; ++layer) {
        for (uint32_t t = 0; t < kAddressTile; ++t) {
          uint32_t window[kMaxWindow];
          ASSERT_EQ(WindowOfToken(tables, batch, t, window), 0u);
          MixToken(tables, layer, window, t, &tile);
        }
        for (uint32_t thread = 0; thread < at_once * tables.columns; ++thread) {
          const LayerColumns columns = ColumnsOf(tables, layer);
          HashColumn(tables, columns, thread % columns.columns, tile, thread / columns.columns,
                     at_once, kAddressTile, RowIdsOf(columns, kAddressTile, 0, rows.data()));
        }
      }
      ASSERT_EQ(rows, expected) << at_once;
    }
  }
}

}  // namespace
}  // namespace engram
