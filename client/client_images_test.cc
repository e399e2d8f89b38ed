// A client of a table set that knows which token ids stand for images: what it refuses, and what it
// says to an owner that addresses.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/transport/local/embedded_transport.h"
#include "client/transport/transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int32_t kImage = 98;
constexpr uint32_t kRowBytes = 264;

// Takes token ids, and keeps what is said with them.
class TokenTransport final : public Transport {
 public:
  explicit TokenTransport(std::unique_ptr<Transport> inner)
      : inner_(std::move(inner)), capabilities_(inner_->capabilities()) {
    capabilities_.max_sequence_tokens = 100;
  }
  bool allowed_images() const { return allowed_images_; }

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return inner_->table_set(); }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override {
    allowed_images_ = batch.tokens != nullptr && batch.tokens->allow_unmasked_images;
    return Ticket{1};
  }
  TicketState Poll(Ticket) override { return TicketState::kLanded; }
  absl::Status Wait(Ticket) override { return absl::OkStatus(); }
  absl::Status WaitLayer(Ticket, size_t) override { return absl::OkStatus(); }
  void Cancel(Ticket) override {}
  void Reap(Ticket) override {}

 private:
  const std::unique_ptr<Transport> inner_;
  Capabilities capabilities_;
  bool allowed_images_ = false;
};

class ClientImagesTest : public ::testing::Test {
 protected:
  ClientImagesTest() : directory_(absl::StrCat(::testing::TempDir(), "/client_images_test")) {
    const testing::SmallTableSet set = {.dead_positions = true, .image_token_ids = {kImage}};
    EXPECT_TRUE(testing::WriteSmallTableSet(set, directory_).ok());
  }
  std::unique_ptr<Client> Attach(bool allow) const {
    return Client::Attach("embedded:" + directory_, {.allow_unmasked_images = allow}).value();
  }
  static void ExpectRefused(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(absl::StrCat("token id ", kImage, " at position 1 is an image's")),
                      HasSubstr("dead mask"), HasSubstr("allow_unmasked_images of the client")));
  }

  const std::string directory_;
  const std::vector<int32_t> ids_ = {5, kImage, 6};
  const std::vector<uint8_t> mask_ = {0, 1, 0};
};

TEST_F(ClientImagesTest, EveryCallWithTokensRefusesALiveOne) {
  const auto client = Attach(false);
  ASSERT_EQ(client->addresser().image_token_ids().size(), 1u);
  std::vector<std::byte> rows(ids_.size() * kRowBytes);
  const Landing landing = {.data = rows.data()};
  const MonotonicTime never = MonotonicTime::Infinite();
  const SequenceTokens sequence = {Addresser::Start(), 3};
  Client::Plan plan;
  SequenceState state = Addresser::Start();
  ExpectRefused(client->PlanTokens(state, ids_, {}, &plan));
  EXPECT_TRUE(plan.row_ids.empty());
  ExpectRefused(client->Prefetch(state, ids_, {}, {&landing, 1}, never, &plan).status());
  const auto by_tokens = client->SubmitTokens({&sequence, 1}, ids_, {}, {&landing, 1}, never);
  EXPECT_THAT(std::string(by_tokens.status().message()), HasSubstr("sequence 0: token id 98"));
  EXPECT_TRUE(client->PlanTokens(state, ids_, mask_, &plan).ok());
}

TEST_F(ClientImagesTest, OneThatAllowsThemPlansTheirRows) {
  const auto client = Attach(true);
  EXPECT_TRUE(client->addresser().image_token_ids().empty());
  Client::Plan live, dead, plain;
  ASSERT_TRUE(client->PlanTokens(Addresser::Start(), ids_, {}, &live).ok());
  ASSERT_TRUE(client->PlanTokens(Addresser::Start(), ids_, mask_, &dead).ok());
  EXPECT_NE(live.row_ids, dead.row_ids);
  const testing::SmallTableSet knows_none = {.dead_positions = true};
  ASSERT_TRUE(testing::WriteSmallTableSet(knows_none, directory_).ok());
  ASSERT_TRUE(Attach(false)->PlanTokens(Addresser::Start(), ids_, {}, &plain).ok());
  EXPECT_EQ(live.row_ids, plain.row_ids);
}

// The owner addresses: whether it may take them travels with the tokens.
TEST_F(ClientImagesTest, AnOwnerThatAddressesIsTold) {
  for (const bool allow : {false, true}) {
    auto made = std::make_unique<TokenTransport>(EmbeddedTransport::Attach(directory_, "").value());
    const TokenTransport& transport = *made;
    const auto client = Client::Create(std::move(made), RealClock(), allow).value();
    const SequenceTokens sequence = {Addresser::Start(), 3};
    std::byte row[3 * kRowBytes];
    const Landing landing = {.data = row};
    ASSERT_TRUE(
        client->SubmitTokens({&sequence, 1}, ids_, {}, {&landing, 1}, MonotonicTime::Infinite())
            .ok());
    EXPECT_EQ(transport.allowed_images(), allow);
  }
}

}  // namespace
}  // namespace engram
