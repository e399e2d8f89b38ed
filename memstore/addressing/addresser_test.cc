#include "memstore/addressing/addresser.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/testing/golden.h"
#include "memstore/addressing/testing/plain_addresser.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

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
  EXPECT_EQ(Sha256Hex(bytes), golden["sha256_i64"]);
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

// ---- Bad calls.

TEST(AddresserTest, MasksAreChecked) {
  const auto v41 = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  const auto qwen = AddresserFor(DeriveOrDie("qwen4-exp"));
  const Ids ids = {1, 2, 3};
  SequenceState state = Addresser::Start();
  const absl::Status short_mask = v41->Address(state, ids, {0, 1}, {});
  EXPECT_EQ(short_mask.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(short_mask.message()), HasSubstr("2 bytes for 3"));
  EXPECT_FALSE(v41->Advance(ids, {0, 1}, &state).ok());
  const absl::Status no_dead = qwen->Address(state, ids, {0, 0, 0}, {});
  EXPECT_EQ(no_dead.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(no_dead.message()), HasSubstr("no dead positions"));
  EXPECT_FALSE(qwen->Advance(ids, {0, 0, 0}, &state).ok());
}

TEST(AddresserTest, OutputsAndStatesAreChecked) {
  const auto addresser = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  Rows rows(48);
  SequenceState state = Addresser::Start();
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{2, rows.data(), 24}}).ok());
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, rows.data(), 23}}).ok());
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, nullptr, 24}}).ok());
  state.ids[0] = 99092;
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, rows.data(), 24}}).ok());
  EXPECT_FALSE(addresser->Advance({1}, {}, &state).ok());
}

TEST(AddresserTest, CreateWantsTheSchemesOwnMap) {
  const AddressScheme v41 = DeriveOrDie("deepseek-v4.1-flash");
  const AddressScheme demo = DeriveOrDie("engram-demo-v1");
  const absl::Status missing = Addresser::Create(v41, nullptr).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("token map"));
  EXPECT_FALSE(Addresser::Create(v41, MapFor(demo)).ok());
  EXPECT_FALSE(Addresser::Create(demo, MapFor(v41)).ok());
  EXPECT_FALSE(Addresser::Create(DeriveOrDie("qwen4-exp"), MapFor(demo)).ok());
  AddressScheme broken = DeriveOrDie("qwen4-exp");
  broken.layers[0].offsets[1] = 0;
  EXPECT_FALSE(Addresser::Create(broken, nullptr).ok());
}

}  // namespace
}  // namespace engram
