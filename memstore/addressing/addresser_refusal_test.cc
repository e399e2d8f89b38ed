// What an addresser refuses: states of another set, histories, masks, outputs and maps that do not
// fit; images' tokens that are not dead; and what a window ends at, at every position.
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
  // More than three tiles: nothing is added to a pointer to nothing.
  EXPECT_TRUE(addresser->Address(state, Ids(200, 1), {}, {{0, nullptr, 24, &*none}}).ok());
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

constexpr int32_t kImage = 129264, kOtherImage = 129265;

std::shared_ptr<const Addresser> Knowing(absl::string_view family, const Ids& images) {
  const AddressScheme scheme = DeriveOrDie(family);
  return Addresser::Create(scheme, MapFor(scheme), ShortSetId(), images).value();
}

class AddresserImagesTest : public testing::Test {
 protected:
  // More than three tiles of tokens.
  static constexpr size_t kTokens = 200;

  AddresserImagesTest() {
    for (size_t t = 0; t < kTokens; ++t) ids_.push_back(static_cast<int32_t>(700 + 631 * t));
  }
  absl::Status Address(const Addresser& addresser, const Ids& ids, const Mask& dead, Rows* rows) {
    const AddressScheme& scheme = addresser.scheme();
    rows->assign(ids.size() * scheme.layers.size() * scheme.Columns(), 0);
    return addresser.Address(Addresser::Start(), ids, dead, DenseOutputs(scheme, rows->data()));
  }
  void ExpectRefused(const absl::Status& status, int32_t id, absl::string_view where) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(
        std::string(status.message()),
        AllOf(HasSubstr(absl::StrCat("token id ", id, " at ", where)), HasSubstr("dead mask"),
              HasSubstr("--allow-unmasked-images"), HasSubstr("allow_unmasked_images")));
  }

  Ids ids_;
  const std::shared_ptr<const Addresser> plain_ = AddresserFor(DeriveOrDie("deepseek-v4.1-flash"));
  const std::shared_ptr<const Addresser> knowing_ =
      Knowing("deepseek-v4.1-flash", {kOtherImage, kImage, -1, 129280});
};

TEST_F(AddresserImagesTest, ItSaysWhichOnesItRefuses) {
  EXPECT_THAT(knowing_->image_token_ids(), ElementsAre(kImage, kOtherImage));
  EXPECT_THAT(plain_->image_token_ids(), IsEmpty());
}

TEST_F(AddresserImagesTest, ALiveOneIsRefusedAtEveryPosition) {
  Rows rows;
  for (size_t at = 0; at < kTokens; ++at) {
    Ids ids = ids_;
    ids[at] = at % 2 == 0 ? kImage : kOtherImage;
    ExpectRefused(Address(*knowing_, ids, {}, &rows), ids[at], absl::StrCat("position ", at, " "));
    Mask dead(kTokens, 1);
    dead[at] = 0;
    ExpectRefused(Address(*knowing_, ids, dead, &rows), ids[at],
                  absl::StrCat("position ", at, " "));
    // What is behind it is not named.
    std::fill(ids.begin() + static_cast<ptrdiff_t>(at), ids.end(), kImage);
    ExpectRefused(Address(*knowing_, ids, {}, &rows), kImage, absl::StrCat("position ", at, " "));
  }
}

TEST_F(AddresserImagesTest, ADeadOneIsTakenWithTheRowsOfADeadPosition) {
  for (size_t at = 0; at < kTokens; at += 7) {
    Ids ids = ids_;
    Mask dead(kTokens);
    ids[at] = ids[kTokens - 1] = kImage;
    dead[at] = dead[kTokens - 1] = 1;
    Rows rows, expected;
    ASSERT_TRUE(Address(*knowing_, ids, dead, &rows).ok()) << at;
    ASSERT_TRUE(Address(*plain_, ids, dead, &expected).ok());
    EXPECT_EQ(rows, expected);
  }
}

TEST_F(AddresserImagesTest, WithoutThemRowsAreAsBefore) {
  Rows rows, expected;
  ASSERT_TRUE(Address(*knowing_, ids_, {}, &rows).ok());
  ASSERT_TRUE(Address(*plain_, ids_, {}, &expected).ok());
  EXPECT_EQ(rows, expected);
}

// Every id of a vocabulary, behind some and before others: what lies between two images' is none.
TEST_F(AddresserImagesTest, OnlyTheirOwnIdsAreRefused) {
  const auto some = Knowing("deepseek-v4.1-flash", {40, 10, 12, 10});
  EXPECT_THAT(some->image_token_ids(), ElementsAre(10, 12, 40));
  Rows rows;
  for (int32_t id = 0; id < 64; ++id) {
    const bool is_image = id == 10 || id == 12 || id == 40;
    for (const size_t at : {size_t{0}, size_t{7}, size_t{63}, size_t{64}, kTokens - 1}) {
      Ids ids = ids_;
      ids[at] = id;
      EXPECT_EQ(Address(*some, ids, {}, &rows).ok(), !is_image) << id << " at " << at;
      Mask dead(kTokens);
      dead[at] = 200;
      EXPECT_TRUE(Address(*some, ids, dead, &rows).ok()) << id << " at " << at;
    }
  }
}

TEST_F(AddresserImagesTest, OneThatKnowsNoneTakesThemAsTokens) {
  Ids ids = ids_;
  ids[5] = kImage;
  Rows rows;
  EXPECT_TRUE(Address(*plain_, ids, {}, &rows).ok());
}

TEST_F(AddresserImagesTest, ASequenceIsNamed) {
  const SequenceTokens sequences[] = {{Addresser::Start(), 2}, {Addresser::Start(), 2}};
  Rows rows(4 * 24);
  const absl::Status status =
      knowing_->AddressSequences(sequences, {1, 2, 3, kImage}, {}, {{0, rows.data(), 24}});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("sequence 1: "), HasSubstr("at position 1 ")));
}

// Where drafts were refused none is committed either: what is looked at is what the window sees.
TEST_F(AddresserImagesTest, NoneIsCommitted) {
  SequenceState state = Addresser::Start();
  ASSERT_TRUE(knowing_->Advance({5, 6}, {}, &state).ok());
  const SequenceState before = state;
  ExpectRefused(knowing_->Advance({7, 8, kImage, 9, 10}, {}, &state), kImage, "position 2 ");
  EXPECT_EQ(state, before);
  SequenceState walked = before;
  ASSERT_TRUE(knowing_->Advance({7, 8, kImage, 9, 10}, {0, 0, 1, 0, 0}, &state).ok());
  ASSERT_TRUE(plain_->Advance({7, 8, kImage, 9, 10}, {0, 0, 1, 0, 0}, &walked).ok());
  EXPECT_EQ(state.ids, walked.ids);
}

TEST_F(AddresserImagesTest, AHistoryHasNone) {
  for (const HistoryOrder order : {HistoryOrder::kOldestFirst, HistoryOrder::kNewestFirst}) {
    ExpectRefused(knowing_->StartAfter({1, kImage, 2}, order, 3).status(), kImage,
                  "place 1 of the history");
    EXPECT_TRUE(plain_->StartAfter({1, kImage, 2}, order, 3).ok());
  }
  // The window ends behind it.
  EXPECT_TRUE(knowing_->StartAfter({kImage, 1, 2, 3}, HistoryOrder::kOldestFirst, 4).ok());
}

// Its models hash an image's token as any other.
TEST_F(AddresserImagesTest, ASchemeWithoutDeadPositionsTakesThem) {
  const auto addresser = Knowing("qwen4-exp", {248056});
  EXPECT_THAT(addresser->image_token_ids(), IsEmpty());
  Rows rows;
  EXPECT_TRUE(Address(*addresser, {1, 248056, 2}, {}, &rows).ok());
}

}  // namespace
}  // namespace engram
