#include "memstore/addressing/addresser.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/column_check.h"
#include "memstore/addressing/testing/golden.h"
#include "memstore/addressing/testing/plain_addresser.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;
using Mask = std::vector<uint8_t>;
using Rows = std::vector<RowId>;

Rows AddressFrom(const Addresser& addresser, const SequenceState& state,
                 absl::Span<const int32_t> ids, absl::Span<const uint8_t> dead) {
  const AddressScheme& scheme = addresser.scheme();
  Rows rows(ids.size() * scheme.layers.size() * scheme.Columns());
  const absl::Status status =
      addresser.Address(state, ids, dead, DenseOutputs(scheme, rows.data()));
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

Rows AddressAll(const Addresser& addresser, const Ids& ids, const Mask& dead = {}) {
  return AddressFrom(addresser, Addresser::Start(), ids, dead);
}

Rows Plain(const Addresser& addresser, const Ids& ids, const Mask& dead = {}) {
  Rows rows;
  PlainAddress(addresser.scheme(), addresser.token_map().get(), ids, dead, &rows);
  return rows;
}

void Commit(const Addresser& addresser, absl::Span<const int32_t> ids,
            absl::Span<const uint8_t> dead, SequenceState* state) {
  const absl::Status status = addresser.Advance(ids, dead, state);
  ASSERT_TRUE(status.ok()) << status;
}

// ---- Known answers.

void ExpectCase(const Addresser& addresser, const nlohmann::json& golden) {
  Ids ids = golden["raw"];
  Mask dead;
  if (!golden["mask"].is_null()) {
    for (const int live : golden["mask"]) dead.push_back(live == 0);
  }
  const Rows rows = AddressAll(addresser, ids, dead);
  EXPECT_EQ(rows, Plain(addresser, ids, dead));
  const absl::string_view bytes(reinterpret_cast<const char*>(rows.data()), rows.size() * 8);
  EXPECT_EQ(Sha256Hex(bytes), golden["sha256_i64"].get<std::string>());
  size_t at = 0;
  for (const auto& token : golden["rows"]) {
    for (const auto& layer : token) {
      for (const RowId row : layer) EXPECT_EQ(rows[at++], row) << at - 1;
    }
  }
  EXPECT_EQ(at, rows.size());
}

TEST(KnownAnswersTest, DeepSeekV41Flash) {
  const auto addresser = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  for (const auto& [name, golden] : KnownAnswers()["deepseek_v41_flash"]["cases"].items()) {
    SCOPED_TRACE(name);
    ExpectCase(*addresser, golden);
  }
}

TEST(KnownAnswersTest, EngramDemoV1) {
  const auto addresser = AddresserFor(DeriveOrDie("engram-demo-v1"));
  for (const auto& [name, golden] : KnownAnswers()["engram_demo_v1"]["cases"].items()) {
    SCOPED_TRACE(name);
    ExpectCase(*addresser, golden);
  }
}

TEST(KnownAnswersTest, Qwen4Exp) {
  const auto addresser = AddresserFor(DeriveOrDie("qwen4-exp"));
  const nlohmann::json& golden = KnownAnswers()["qwen4_exp"];
  SequenceState state = Addresser::Start();
  const Ids history = golden["history"], ids = golden["ids"];
  Commit(*addresser, history, {}, &state);
  const Rows rows = AddressFrom(*addresser, state, ids, {});
  size_t at = 0;
  for (const auto& token : golden["rows"]) {
    for (const RowId row : token) EXPECT_EQ(rows[at++], row) << at - 1;
  }
  EXPECT_EQ(at, rows.size());
}

TEST(KnownAnswersTest, LongCatFlashLite) {
  const AddressScheme scheme = DeriveOrDie("longcat-flash-lite");
  const nlohmann::json& golden = KnownAnswers()["longcat_flash_lite"];
  const Ids ids = golden["ids"];
  const Rows rows = AddressAll(*AddresserFor(scheme), ids);
  for (const uint32_t column : {0, 11}) {
    const nlohmann::json& table = golden[absl::StrCat("table_", column)];
    for (size_t t = 0; t < ids.size(); ++t) {
      EXPECT_EQ(rows[t * 12 + column] - scheme.layers[0].offsets[column], table[t]) << t;
    }
  }
}

// The English stream's first tokens, as addresses: the plain version and the stream's digest.
TEST(KnownAnswersTest, ARealTokenStreamEqualsThePlainVersion) {
  const std::string bytes = ReadGolden("tokens_en_handbook.i32");
  const int32_t* const first = reinterpret_cast<const int32_t*>(bytes.data());
  const Ids ids(first, first + 20000);
  const auto addresser = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  EXPECT_EQ(AddressAll(*addresser, ids), Plain(*addresser, ids));
}

// ---- Properties, for every family at a size whose moduli suit each kernel.

struct Sequence {
  Ids ids;
  Mask dead;  // empty for families without dead positions
};

class AddresserPropertyTest : public testing::TestWithParam<std::tuple<std::string, uint64_t>> {
 protected:
  void SetUp() override {
    DeriveOptions options;
    options.rows_per_head = std::get<1>(GetParam());
    addresser_ = AddresserFor(DeriveOrDie(std::get<0>(GetParam()), options));
  }

  // Random ids with extreme ones, reset tokens and dead spans among them.
  Sequence Random(size_t tokens) {
    const AddressScheme& scheme = addresser_->scheme();
    const int32_t extremes[] = {0, static_cast<int32_t>(scheme.vocab_size - 1),
                                static_cast<int32_t>(scheme.reset_token_id.value_or(1))};
    Sequence sequence;
    for (size_t t = 0; t < tokens; ++t) {
      const uint64_t drawn = random_();
      sequence.ids.push_back(drawn % 4 == 0 ? extremes[drawn / 4 % 3]
                                            : static_cast<int32_t>(drawn / 4 % scheme.vocab_size));
    }
    if (!scheme.dead_positions) return sequence;
    sequence.dead.resize(tokens);
    for (size_t t = 0; t < tokens; t += random_() % 9 + 1) {
      for (const size_t end = std::min(tokens, t + random_() % 5); t < end; ++t) {
        sequence.dead[t] = static_cast<uint8_t>(random_() % 255 + 1);
        sequence.ids[t] = -1;  // not looked at
      }
    }
    return sequence;
  }

  std::shared_ptr<const Addresser> addresser_;
  std::mt19937_64 random_{7};
};

absl::Span<const uint8_t> Part(const Mask& dead, size_t begin, size_t count) {
  return dead.empty() ? absl::Span<const uint8_t>() : absl::MakeSpan(dead).subspan(begin, count);
}

TEST_P(AddresserPropertyTest, EqualsThePlainVersionAtEveryLength) {
  for (size_t tokens = 0; tokens < 140; ++tokens) {
    const Sequence s = Random(tokens);
    ASSERT_EQ(AddressAll(*addresser_, s.ids, s.dead), Plain(*addresser_, s.ids, s.dead)) << tokens;
  }
}

TEST_P(AddresserPropertyTest, ChunksEqualOnePass) {
  for (int round = 0; round < 30; ++round) {
    const Sequence s = Random(300);
    const Rows whole = AddressAll(*addresser_, s.ids, s.dead);
    const size_t longest_chunk = random_() % 100 + 1;
    SequenceState state = Addresser::Start();
    Rows chunked;
    for (size_t begin = 0, count = 0; begin < s.ids.size(); begin += count) {
      count = std::min(s.ids.size() - begin, random_() % longest_chunk + 1);
      const auto ids = absl::MakeSpan(s.ids).subspan(begin, count);
      const auto dead = Part(s.dead, begin, count);
      const Rows rows = AddressFrom(*addresser_, state, ids, dead);
      chunked.insert(chunked.end(), rows.begin(), rows.end());
      Commit(*addresser_, ids, dead, &state);
    }
    ASSERT_EQ(chunked, whole);
    SequenceState at_once = Addresser::Start();
    Commit(*addresser_, s.ids, s.dead, &at_once);
    EXPECT_EQ(at_once, state);
  }
}

TEST_P(AddresserPropertyTest, DraftsAreNotCommittedAndStatesForkAndRollBack) {
  const Sequence prefix = Random(50), draft = Random(6), other = Random(9);
  SequenceState state = Addresser::Start();
  Commit(*addresser_, prefix.ids, prefix.dead, &state);
  const SequenceState before = state;

  const Rows draft_rows = AddressFrom(*addresser_, state, draft.ids, draft.dead);
  EXPECT_EQ(state, before);
  // Two of the six are accepted; the next one's rows are what the draft had for it.
  Commit(*addresser_, absl::MakeSpan(draft.ids).first(2), Part(draft.dead, 0, 2), &state);
  const Rows third = AddressFrom(*addresser_, state, absl::MakeSpan(draft.ids).subspan(2, 1),
                                 Part(draft.dead, 2, 1));
  const size_t row_count = third.size();
  EXPECT_EQ(third, Rows(draft_rows.begin() + 2 * row_count, draft_rows.begin() + 3 * row_count));

  // A fork goes its own way; rolled back, the first one is where it was.
  SequenceState fork = before;
  Commit(*addresser_, other.ids, other.dead, &fork);
  state = before;
  EXPECT_EQ(AddressFrom(*addresser_, state, draft.ids, draft.dead), draft_rows);
  Sequence joined = prefix;
  joined.ids.insert(joined.ids.end(), other.ids.begin(), other.ids.end());
  joined.dead.insert(joined.dead.end(), other.dead.begin(), other.dead.end());
  SequenceState straight = Addresser::Start();
  Commit(*addresser_, joined.ids, joined.dead, &straight);
  EXPECT_EQ(fork, straight);
}

TEST_P(AddresserPropertyTest, LayersGoWhereTheirOutputsSay) {
  const AddressScheme& scheme = addresser_->scheme();
  const Sequence s = Random(100);
  const Rows whole = AddressAll(*addresser_, s.ids, s.dead);
  const size_t columns = scheme.Columns(), layers = scheme.layers.size();
  for (uint32_t l = 0; l < layers; ++l) {
    Rows rows(s.ids.size() * (columns + 3), 77);
    const LayerRowIdsOutput output = {l, rows.data(), columns + 3};
    ASSERT_TRUE(addresser_->Address(Addresser::Start(), s.ids, s.dead, {output}).ok());
    for (size_t t = 0; t < s.ids.size(); ++t) {
      for (size_t c = 0; c < columns + 3; ++c) {
        const RowId want = c < columns ? whole[(t * layers + l) * columns + c] : 77;
        ASSERT_EQ(rows[t * (columns + 3) + c], want);
      }
    }
  }
}

// One of every kind: no columns, one, the same heads of every order, single ones as far apart as
// there are runs for, all.
std::vector<ColumnSlice> SomeSlices(const AddressScheme& scheme) {
  const uint32_t columns = scheme.Columns(), heads = scheme.heads_per_order;
  std::vector<ColumnRun> orders, single;
  for (uint32_t order = 2; order <= scheme.max_order; ++order) {
    orders.push_back({(order - 2) * heads + heads / 2, heads - heads / 2});
  }
  for (uint32_t c = 0; c < columns && single.size() < ColumnSlice::kMaxRuns; c += columns / 8 + 1) {
    single.push_back({c, 1});
  }
  std::vector<ColumnSlice> slices = {ColumnSlice::All(columns)};
  for (const std::vector<ColumnRun>& runs :
       {std::vector<ColumnRun>{}, {{columns - 1, 1}}, {{1, columns - 1}}, orders, single}) {
    const auto slice = ColumnSlice::Create(runs, columns);
    EXPECT_TRUE(slice.ok()) << slice.status();
    slices.push_back(*slice);
  }
  return slices;
}

TEST_P(AddresserPropertyTest, ASliceIsTheLayersColumnsAtItsPlaces) {
  const AddressScheme& scheme = addresser_->scheme();
  const size_t columns = scheme.Columns(), layers = scheme.layers.size();
  for (const size_t tokens : {size_t{1}, size_t{7}, size_t{64}, size_t{201}}) {
    const Sequence s = Random(tokens);
    const Rows whole = AddressAll(*addresser_, s.ids, s.dead);
    for (const ColumnSlice& slice : SomeSlices(scheme)) {
      SCOPED_TRACE(absl::StrCat(slice.ToString(), ", tokens ", tokens));
      const size_t stride = slice.columns() + 2;
      Rows rows(tokens * stride, 77);
      // With another layer's columns all beside it, which fill tiles in their own way.
      Rows all(tokens * columns);
      const auto last = static_cast<uint32_t>(layers - 1);
      const LayerRowIdsOutput outputs[] = {{last, rows.data(), stride, &slice},
                                           {0, all.data(), columns}};
      const absl::Status status = addresser_->Address(Addresser::Start(), s.ids, s.dead, outputs);
      ASSERT_TRUE(status.ok()) << status;
      for (size_t t = 0; t < tokens; ++t) {
        for (uint32_t c = 0; c < stride; ++c) {
          const RowId want = c < slice.columns()
                                 ? whole[(t * layers + last) * columns + slice.LayerColumn(c)]
                                 : 77;
          ASSERT_EQ(rows[t * stride + c], want);
        }
        for (size_t c = 0; c < columns; ++c) {
          ASSERT_EQ(all[t * columns + c], whole[t * layers * columns + c]);
        }
      }
    }
  }
}

TEST_P(AddresserPropertyTest, IdsOfEveryColumnPassItsCheckAndNoOthers) {
  const AddressScheme& scheme = addresser_->scheme();
  const uint32_t columns = scheme.Columns();
  const Sequence s = Random(9);
  for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
    const LayerAddressing& layer = scheme.layers[l];
    for (const ColumnSlice& slice : SomeSlices(scheme)) {
      Rows ids(s.ids.size() * slice.columns());
      const LayerRowIdsOutput output = {l, ids.data(), slice.columns(), &slice};
      ASSERT_TRUE(addresser_->Address(Addresser::Start(), s.ids, s.dead, {&output, 1}).ok());
      EXPECT_TRUE(CheckColumnIds<RowId>(layer, slice, ids).ok());
      const auto narrow = [&](const Rows& wide) {
        return std::vector<uint32_t>(wide.begin(), wide.end());
      };
      const bool fits = layer.Rows() <= uint64_t{1} << 31;
      if (fits) {
        EXPECT_TRUE(CheckColumnIds<uint32_t>(layer, slice, narrow(ids)).ok());
      }
      // Any id of the first and of the last token, at the ends of its column and one beyond.
      for (size_t i = 0; i < ids.size(); ++i) {
        if (i >= slice.columns() && i < ids.size() - slice.columns()) continue;
        const uint32_t column = slice.LayerColumn(i % slice.columns());
        const RowId right = ids[i], first = layer.offsets[column];
        const RowId end = first + layer.moduli[column];
        for (const auto& [id, good] : {std::pair<RowId, bool>{first, true},
                                       {end - 1, true},
                                       {end, false},
                                       {first - 1, false},
                                       {right + (uint64_t{1} << 63), false}}) {
          ids[i] = id;
          ASSERT_EQ(CheckColumnIds<RowId>(layer, slice, ids).ok(), good)
              << id << " column " << column;
          if (!fits) continue;
          ASSERT_EQ(CheckColumnIds<uint32_t>(layer, slice, narrow(ids)).ok(),
                    static_cast<uint32_t>(id) - first < end - first);
        }
        ids[i] = right;
      }
    }
  }
  EXPECT_FALSE(CheckColumnIds<RowId>(scheme.layers[0], ColumnSlice::All(columns), Rows(1)).ok());
}

TEST_P(AddresserPropertyTest, IdsOutOfRangeAreNamedWithTheirPosition) {
  const AddressScheme& scheme = addresser_->scheme();
  for (const int32_t bad : {-1, INT32_MIN, INT32_MAX, static_cast<int32_t>(scheme.vocab_size)}) {
    Ids ids(100, 5);
    ids[98] = bad;
    Rows rows(ids.size() * scheme.layers.size() * scheme.Columns());
    SequenceState state = Addresser::Start();
    for (const absl::Status& status :
         {addresser_->Address(state, ids, {}, DenseOutputs(scheme, rows.data())),
          addresser_->Advance(ids, {}, &state)}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("token id ", bad, " at")));
      EXPECT_THAT(std::string(status.message()), HasSubstr("position 98"));
    }
    EXPECT_EQ(state, Addresser::Start());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families, AddresserPropertyTest,
    testing::Combine(testing::Values("deepseek-v4.1-flash", "engram-demo-v1", "engram-27b",
                                     "qwen4-exp", "longcat-flash-lite"),
                     testing::Values(0, 100, 40009)),
    [](const auto& param) {
      std::string name = absl::StrCat(std::get<0>(param.param), "_", std::get<1>(param.param));
      std::replace_if(
          name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
      return name;
    });

// ---- Dead positions and resets, spelled out.

TEST(AddresserTest, ADeadPositionIsAllPadsAndBlocksWhatFollows) {
  const auto addresser = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  const size_t row_count = 48;
  const Rows with_dead = AddressAll(*addresser, {100, 200, -5, 300, 400}, {0, 0, 1, 0, 0});
  // The compressed pad is the id 2, which is also what the raw id 2 is compressed to.
  const Rows pad = AddressAll(*addresser, {2});
  EXPECT_EQ(Rows(with_dead.begin() + 2 * row_count, with_dead.begin() + 3 * row_count), pad);
  const Rows fresh = AddressAll(*addresser, {300, 400});
  EXPECT_EQ(Rows(with_dead.begin() + 3 * row_count, with_dead.end()), fresh);
}

TEST(AddresserTest, AResetTokenIsHashedItselfAndEndsTheWindow) {
  const auto addresser = AddresserFor(DeriveOrDie("longcat-flash-lite"));
  const Rows rows = AddressAll(*addresser, {11, 523, 2, 9001});
  const Rows unbroken = AddressAll(*addresser, {11, 523, 3, 9001});
  const Rows fresh = AddressAll(*addresser, {9001});
  EXPECT_EQ(Rows(rows.begin() + 36, rows.end()), fresh);
  EXPECT_NE(Rows(unbroken.begin() + 36, unbroken.end()), fresh);
  EXPECT_NE(Rows(rows.begin() + 24, rows.begin() + 36), AddressAll(*addresser, {2}));
}

TEST(AddresserTest, StatesThatAddressAlikeAreEqual) {
  const auto addresser = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  SequenceState one = Addresser::Start(), other = Addresser::Start();
  // What lies behind the dead position cannot matter any more.
  Commit(*addresser, {100, 0, 300}, {0, 1, 0}, &one);
  Commit(*addresser, {200, 0, 300}, {0, 1, 0}, &other);
  EXPECT_EQ(one, other);
}

// The largest scheme that there may be: slices of it are taken of few tokens at a time.
TEST(AddresserTest, SlicesOfTheMostColumnsThatThereMayBe) {
  AddressScheme scheme;
  scheme.family = "widest";
  scheme.max_order = kMaxOrder;
  scheme.heads_per_order = kMaxHeadsPerOrder;
  scheme.vocab_size = 50000;
  LayerAddressing& layer = scheme.layers.emplace_back();
  for (uint32_t k = 0; k < kMaxOrder; ++k) layer.multipliers.push_back(1234577 + 1000 * k);
  for (uint32_t c = 0; c < scheme.Columns(); ++c) {
    layer.offsets.push_back(layer.moduli.empty() ? 0 : layer.Rows());
    layer.moduli.push_back(10007 + 2 * c);
  }
  const auto addresser = AddresserFor(scheme);
  Ids ids(200);
  for (size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<int32_t>(t * 7919 % 50000);
  const Rows whole = AddressAll(*addresser, ids);
  EXPECT_EQ(whole, Plain(*addresser, ids));
  for (const ColumnSlice& slice : SomeSlices(scheme)) {
    Rows rows(ids.size() * slice.columns());
    const LayerRowIdsOutput output = {0, rows.data(), slice.columns(), &slice};
    ASSERT_TRUE(addresser->Address(Addresser::Start(), ids, {}, {&output, 1}).ok());
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t token = i / slice.columns();
      ASSERT_EQ(rows[i], whole[token * scheme.Columns() + slice.LayerColumn(i % slice.columns())]);
    }
  }
}

// ---- Ids of another column.

TEST(CheckColumnIdsTest, SaysWhatWentWrong) {
  const AddressScheme scheme = DeriveOrDie("deepseek-v4.1-flash");
  const LayerAddressing& layer = scheme.layers[1];
  const ColumnSlice all = ColumnSlice::All(24);
  const auto message = [&](uint64_t id, const ColumnSlice& slice, size_t index) {
    Rows ids(size_t{2} * slice.columns());
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = layer.offsets[slice.LayerColumn(i % slice.columns())] + i;
    }
    ids[index] = id;
    const absl::Status status = CheckColumnIds<RowId>(layer, slice, ids);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const uint64_t offset = layer.offsets[7], modulus = layer.moduli[7];
  EXPECT_THAT(message(5, all, 24 + 7),
              HasSubstr(absl::StrCat("row id 5 at index 31 (token 1, column 7) is not a row of its "
                                     "column, which has ",
                                     offset, "..", offset + modulus - 1)));
  EXPECT_THAT(message(5, all, 7), HasSubstr("ids local to a head?"));
  EXPECT_THAT(message(modulus - 1, all, 7), HasSubstr("ids local to a head?"));
  EXPECT_THAT(message(2 * offset, all, 7), HasSubstr("offset added twice?"));
  EXPECT_THAT(message(2 * offset + modulus - 1, all, 7), HasSubstr("offset added twice?"));
  EXPECT_THAT(message(layer.offsets[9] + 3, all, 7), HasSubstr("it is of column 9"));
  EXPECT_THAT(message(layer.offsets[3] + 3, all, 7), HasSubstr("it is of column 3"));
  EXPECT_THAT(message(layer.Rows(), all, 7), HasSubstr("beyond the table"));
  // Column 1 of the slice is the layer's 9.
  const auto slice = ColumnSlice::Create({{1, 1}, {9, 1}}, 24, layer.layer);
  EXPECT_THAT(message(layer.offsets[1] + 1, *slice, 3), HasSubstr("(token 1, column 9)"));
}

TEST(CheckColumnIdsTest, WantsWholeTokensOfItsLayer) {
  const AddressScheme scheme = DeriveOrDie("deepseek-v4.1-flash");
  const auto check = [&](const ColumnSlice& slice, const Rows& ids) {
    return std::string(CheckColumnIds<RowId>(scheme.layers[0], slice, ids).message());
  };
  EXPECT_THAT(
      check(ColumnSlice::All(24), Rows(25)),
      AllOf(HasSubstr("25 row ids are not whole tokens"), HasSubstr("give 24 ids for each token")));
  EXPECT_THAT(check(ColumnSlice::All(12), Rows(12)), HasSubstr("12 columns"));
  EXPECT_THAT(check(*ColumnSlice::Create({}, 24), Rows(1)), HasSubstr("not whole tokens"));
  EXPECT_EQ(check(*ColumnSlice::Create({}, 24), Rows()), "");
  const auto other = ColumnSlice::Create({{0, 1}}, 24, scheme.layers[1].layer);
  EXPECT_THAT(check(*other, Rows(1)), HasSubstr("was given for layer"));
}

}  // namespace
}  // namespace engram
