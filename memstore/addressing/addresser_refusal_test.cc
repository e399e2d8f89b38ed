// What an addresser refuses: states of another set, histories, masks, outputs and maps that do not
// fit; and what a window ends at, at every position.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;
using Mask = std::vector<uint8_t>;
using Rows = std::vector<RowId>;

Rows AddressFrom(const Addresser& addresser, const SequenceState& state,
                 absl::Span<const int32_t> ids, absl::Span<const uint8_t> dead = {}) {
  const AddressScheme& scheme = addresser.scheme();
  Rows rows(ids.size() * scheme.layers.size() * scheme.Columns());
  const absl::Status status =
      addresser.Address(state, ids, dead, DenseOutputs(scheme, rows.data()));
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

// Of every family: a sequence that is longer than any window, of ids that are no family's EOS.
class WindowTest : public testing::TestWithParam<std::string> {
 protected:
  static constexpr size_t kTokens = 3 * kMaxOrder;

  void SetUp() override {
    for (size_t t = 0; t < kTokens; ++t) ids_.push_back(static_cast<int32_t>(1000 + 37 * t));
  }
  // Rows of the tokens from `begin` to `end`, of a sequence that starts at `start`.
  Rows Fresh(size_t start, size_t begin, size_t end) const {
    const Rows rows = AddressFrom(*addresser_, Addresser::Start(),
                                  absl::MakeSpan(ids_).subspan(start, end - start));
    return Rows(rows.begin() + (begin - start) * TokenRows(), rows.end());
  }
  Rows Part(const Rows& rows, size_t begin, size_t end) const {
    return Rows(rows.begin() + begin * TokenRows(), rows.begin() + end * TokenRows());
  }
  size_t TokenRows() const {
    return addresser_->scheme().layers.size() * addresser_->scheme().Columns();
  }

  const std::shared_ptr<const Addresser> addresser_ = AddresserFor(DeriveOrDie(GetParam()));
  const size_t lookback_ = addresser_->scheme().Lookback();
  Ids ids_;
};

// The EOS of every family, where it resets and where it does not, at every position: alone, and
// with another in every place behind it that a window sees.
TEST_P(WindowTest, AnEosEndsTheWindowOrNotAtEveryPosition) {
  const std::optional<uint32_t> reset = addresser_->scheme().reset_token_id;
  const auto eos = static_cast<int32_t>(reset.value_or(1));
  const Ids plain = ids_;
  for (size_t at = 0; at < kTokens; ++at) {
    for (size_t next = at + 1; next <= at + lookback_ + 1 && next < kTokens; ++next) {
      ids_ = plain;
      ids_[at] = ids_[next] = eos;
      const Rows rows = AddressFrom(*addresser_, Addresser::Start(), ids_);
      // Itself it is an ordinary token, and those after it begin anew.
      const size_t first = reset ? at + 1 : 0, second = reset ? next + 1 : 0;
      ASSERT_EQ(Part(rows, 0, at + 1), Fresh(0, 0, at + 1)) << at;
      ASSERT_EQ(Part(rows, at + 1, next + 1), Fresh(first, at + 1, next + 1)) << at << " " << next;
      ASSERT_EQ(Part(rows, next + 1, kTokens), Fresh(second, next + 1, kTokens)) << next;
      if (reset || at + 1 == kTokens) continue;
      ASSERT_NE(Part(rows, at + 1, at + 2), Fresh(at + 1, at + 1, at + 2)) << at;
    }
  }
}

TEST_P(WindowTest, ADeadPositionEndsTheWindowAtEveryPosition) {
  if (!addresser_->scheme().dead_positions) return;
  for (size_t at = 0; at < kTokens; ++at) {
    Mask dead(kTokens);
    dead[at] = 1;
    const Rows rows = AddressFrom(*addresser_, Addresser::Start(), ids_, dead);
    ASSERT_EQ(Part(rows, 0, at), Fresh(0, 0, at)) << at;
    ASSERT_EQ(Part(rows, at + 1, kTokens), Fresh(at + 1, at + 1, kTokens)) << at;
  }
}

// With and without an EOS in the history.
TEST_P(WindowTest, AHistoryContinuesAtEveryPosition) {
  const auto eos = static_cast<int32_t>(addresser_->scheme().reset_token_id.value_or(1));
  for (const size_t eos_at : {kTokens, size_t{0}, size_t{9}, size_t{10}}) {
    if (eos_at < kTokens) ids_[eos_at] = eos;
    const Rows rows = AddressFrom(*addresser_, Addresser::Start(), ids_);
    for (size_t before = 0; before <= kTokens; ++before) {
      SequenceState walked = Addresser::Start();
      const absl::Span<const int32_t> past = absl::MakeSpan(ids_).first(before);
      ASSERT_TRUE(addresser_->Advance(past, {}, &walked).ok());
      // The least, and as much as there is.
      for (const size_t given : {std::min(before, lookback_), before}) {
        const Ids oldest_first(past.end() - given, past.end());
        const Ids newest_first(oldest_first.rbegin(), oldest_first.rend());
        const auto state = addresser_->StartAfter(oldest_first, HistoryOrder::kOldestFirst, before);
        ASSERT_TRUE(state.ok()) << state.status();
        EXPECT_EQ(*state, walked);
        EXPECT_EQ(addresser_->StartAfter(newest_first, HistoryOrder::kNewestFirst, before).value(),
                  walked);
        EXPECT_EQ(AddressFrom(*addresser_, *state, absl::MakeSpan(ids_).subspan(before)),
                  Part(rows, before, kTokens));
      }
    }
  }
}

TEST_P(WindowTest, AHistoryHasAsManyIdsAsTheWindowOrTheSequence) {
  const auto refusal = [&](const Ids& history, uint64_t before) {
    std::string said;
    for (const HistoryOrder order : {HistoryOrder::kOldestFirst, HistoryOrder::kNewestFirst}) {
      const absl::Status status = addresser_->StartAfter(history, order, before).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      said = std::string(status.message());
    }
    return said;
  };
  const Ids full(ids_.begin(), ids_.begin() + lookback_);
  const Ids one_less(full.begin() + 1, full.end());
  EXPECT_THAT(refusal(one_less, lookback_), HasSubstr(absl::StrCat("give the last ", lookback_)));
  EXPECT_THAT(refusal(one_less, UINT64_MAX), HasSubstr(absl::StrCat("give the last ", lookback_)));
  EXPECT_THAT(refusal(full, lookback_ - 1),
              HasSubstr(absl::StrCat("give the last ", lookback_ - 1)));
  EXPECT_THAT(refusal({5}, 0), HasSubstr("give the last 0"));
  // In no place is -1 a pad, be it one that the window does not see.
  for (size_t place = 0; place < kTokens; ++place) {
    for (const int32_t bad : {-1, static_cast<int32_t>(addresser_->scheme().vocab_size)}) {
      Ids history = ids_;
      history[place] = bad;
      EXPECT_THAT(refusal(history, kTokens),
                  AllOf(HasSubstr(absl::StrCat("id ", bad, " at place ", place, " of the history")),
                        HasSubstr("dead mask")));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, WindowTest,
                         testing::Values("deepseek-v4.1-flash", "engram-demo-v1", "engram-27b",
                                         "qwen4-exp", "longcat-flash-lite"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); },
                               '_');
                           return name;
                         });

// The one of addresser.h.
TEST(AddresserTest, TheTestVectorOfStartAfter) {
  const auto addresser = AddresserFor(DeriveOrDie("longcat-flash-lite"));
  const std::vector<uint64_t>& offsets = addresser->scheme().layers[0].offsets;
  const auto oldest_first = addresser->StartAfter({11, 523, 9001}, HistoryOrder::kOldestFirst, 3);
  const auto newest_first = addresser->StartAfter({9001, 523, 11}, HistoryOrder::kNewestFirst, 3);
  for (const auto& state : {oldest_first, newest_first}) {
    ASSERT_TRUE(state.ok()) << state.status();
    const Rows rows = AddressFrom(*addresser, *state, {44});
    EXPECT_EQ(rows[0] - offsets[0], 4063161u);
    EXPECT_EQ(rows[11] - offsets[11], 8640817u);
  }
  const auto wrong = addresser->StartAfter({11, 523, 9001}, HistoryOrder::kNewestFirst, 3);
  EXPECT_NE(AddressFrom(*addresser, *wrong, {44})[0] - offsets[0], 4063161u);
}

TEST(AddresserRefusalTest, AnIdThatIsNoTokensHasItsUsualCause) {
  const auto says = [](const char* family, int32_t id) {
    SequenceState state = Addresser::Start();
    return std::string(AddresserFor(DeriveOrDie(family))->Advance({id}, {}, &state).message());
  };
  EXPECT_THAT(says("deepseek-v4.1-flash", -1), AllOf(HasSubstr("padding"), HasSubstr("dead mask")));
  EXPECT_THAT(says("qwen4-exp", -1),
              AllOf(HasSubstr("leave padding out"), testing::Not(HasSubstr("dead mask"))));
  EXPECT_THAT(says("deepseek-v4.1-flash", 129280),
              AllOf(HasSubstr("0..129279; were the ids made with another tokenizer?"),
                    HasSubstr("image's hash"), HasSubstr("dead mask"), HasSubstr("int64")));
  EXPECT_THAT(says("qwen4-exp", (1 << 30) + 12345),
              AllOf(HasSubstr("image's hash"), testing::Not(HasSubstr("dead mask"))));
  EXPECT_THAT(says("qwen4-exp", 5 << 24), HasSubstr("float, big-endian: 5)"));
}

TEST(AddresserRefusalTest, AStateOfAnotherSetIsRefusedWithBothIds) {
  const AddressScheme scheme = DeriveOrDie("longcat-flash-lite");
  const auto of = [&](char digit) {
    return Addresser::Create(scheme, nullptr, ShortSetId::Of(std::string(64, digit))).value();
  };
  const auto one = of('1'), other = of('2'), none = AddresserFor(scheme);
  const std::string here(16, '1'), there(16, '2');
  SequenceState state = Addresser::Start();
  EXPECT_TRUE(state.set.is_none());
  EXPECT_TRUE(other->CheckState(state).ok());  // a start is everybody's
  ASSERT_TRUE(one->Advance({11, 523}, {}, &state).ok());
  EXPECT_EQ(state.set, one->set());
  EXPECT_TRUE(one->CheckState(state).ok());

  SequenceState kept = state;
  Rows rows(12);
  for (const absl::Status& status : {other->CheckState(state), other->Advance({1}, {}, &state),
                                     other->Address(state, {1}, {}, {{0, rows.data(), 12}})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(here));
    EXPECT_THAT(std::string(status.message()), HasSubstr(there));
  }
  EXPECT_EQ(state, kept);
  const SequenceTokens sequences[] = {{Addresser::Start(), 1}, {state, 1}};
  const absl::Status status =
      other->AddressSequences(sequences, {1, 2}, {}, {{0, Rows(24).data(), 12}});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sequence 1: "));

  // One without a set cannot tell, and so refuses; what it made itself goes everywhere.
  EXPECT_EQ(none->CheckState(state).code(), absl::StatusCode::kFailedPrecondition);
  SequenceState free = Addresser::Start();
  ASSERT_TRUE(none->Advance({11, 523}, {}, &free).ok());
  EXPECT_TRUE(one->CheckState(free).ok());
  ASSERT_TRUE(one->Advance({5}, {}, &free).ok());
  EXPECT_EQ(free.set, one->set());
}

TEST(AddresserRefusalTest, MasksAreChecked) {
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

TEST(AddresserRefusalTest, OutputsAndStatesAreChecked) {
  const auto addresser = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  Rows rows(48);
  SequenceState state = Addresser::Start();
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{2, rows.data(), 24}}).ok());
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, rows.data(), 23}}).ok());
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, nullptr, 24}}).ok());
  const auto two = ColumnSlice::Create({{3, 2}}, 24, 1), none = ColumnSlice::Create({}, 24);
  const ColumnSlice of_12 = ColumnSlice::All(12);
  ASSERT_EQ(addresser->scheme().layers[0].layer, 1u);
  EXPECT_TRUE(addresser->Address(state, {1}, {}, {{0, rows.data(), 2, &*two}}).ok());
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, rows.data(), 1, &*two}}).ok());
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, nullptr, 2, &*two}}).ok());
  EXPECT_TRUE(addresser->Address(state, {1}, {}, {{0, nullptr, 0, &*none}}).ok());
  const absl::Status layer = addresser->Address(state, {1}, {}, {{1, rows.data(), 2, &*two}});
  EXPECT_EQ(layer.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(layer.message()), HasSubstr("slice of layer 1 was given for layer"));
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, rows.data(), 24, &of_12}}).ok());
  state.ids[0] = 99092;
  EXPECT_FALSE(addresser->Address(state, {1}, {}, {{0, rows.data(), 24}}).ok());
  EXPECT_FALSE(addresser->Advance({1}, {}, &state).ok());
}

TEST(AddresserRefusalTest, CreateWantsTheSchemesOwnMap) {
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
