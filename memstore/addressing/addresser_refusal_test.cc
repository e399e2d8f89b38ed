// What an addresser refuses: states of another set, masks, outputs and maps that do not fit.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;
using Rows = std::vector<RowId>;

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
