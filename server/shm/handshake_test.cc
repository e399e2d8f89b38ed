#include "server/shm/handshake.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/memfd.h"
#include "memstore/shm/held_tables.h"
#include "memstore/store/testing/deferred_rows.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kMaxBatchRows = 1000;

class HandshakeTest : public ::testing::TestWithParam<ShmMode> {
 protected:
  HandshakeTest() : directory_(::testing::TempDir() + "/handshake_test") {
    testing::WriteSmallTableSet({}, directory_).value();
  }
  absl::StatusOr<ShmGrant> Grant(LoadOptions options) {
    options.arena.shareable = true;
    EXPECT_TRUE(registry_.Publish(TableSet::Load(directory_, options).value()).ok());
    return GrantShmRequest({.mode = GetParam(), .table_set = ""}, registry_, kMaxBatchRows);
  }

  const std::string directory_;
  testing::Deferred deferred_;
  TableSetRegistry registry_;
};

TEST_P(HandshakeTest, RowsInMemoryAreLent) {
  const absl::StatusOr<ShmGrant> grant = Grant({});
  ASSERT_TRUE(grant.ok()) << grant.status();
  EXPECT_EQ(grant->reply.max_batch_rows, kMaxBatchRows);
}

TEST_P(HandshakeTest, ImageTokenIdsGoBehindTheReplyToWhoTakesThem) {
  for (const bool has_images : {true, false}) {
    for (const bool takes : {true, false}) {
      testing::SmallTableSet small = {.dead_positions = true};
      if (has_images) small.image_token_ids = {97, 98};
      testing::WriteSmallTableSet(small, directory_).value();
      TableSetRegistry registry;
      LoadOptions options;
      options.arena.shareable = true;
      ASSERT_TRUE(registry.Publish(TableSet::Load(directory_, options).value()).ok());
      const auto grant =
          GrantShmRequest({.mode = GetParam(), .table_set = "", .takes_image_token_ids = takes},
                          registry, kMaxBatchRows);
      ASSERT_TRUE(grant.ok()) << grant.status();
      const std::vector<std::byte> message = ShmGrantMessage(*grant);
      const size_t ids = has_images && takes ? 2 : 0;
      ASSERT_EQ(message.size(), sizeof(ShmReply) + ids * sizeof(int32_t));
      EXPECT_EQ(std::memcmp(message.data(), &grant->reply, sizeof(ShmReply)), 0);
      if (ids == 0) continue;
      const int32_t expected[] = {97, 98};
      EXPECT_EQ(std::memcmp(&message[sizeof(ShmReply)], expected, sizeof(expected)), 0);
    }
  }
}

TEST_P(HandshakeTest, APartGoesToClientsThatTakeOne) {
  testing::WriteSmallTableSet({.columns = 2}, directory_).value();
  LoadOptions options;
  options.partition = PartitionIndex{1, 2};
  const absl::Status older = Grant(options).status();
  // Not UNIMPLEMENTED: the client would ask for a ring.
  EXPECT_EQ(older.code(), absl::StatusCode::kFailedPrecondition);
  const auto grant = GrantShmRequest({.mode = GetParam(), .table_set = "", .takes_held_rows = true},
                                     registry_, kMaxBatchRows);
  ASSERT_TRUE(grant.ok()) << grant.status();
  EXPECT_THAT(std::string(grant->reply.message, grant->reply.message_bytes),
              HasSubstr(" held_rows"));
  // Manifest, control page, held rows, then the table or the ring.
  ASSERT_EQ(grant->descriptors.size(), 4u);
  const auto mapping =
      MapSealed(grant->own[1], kReadOnlySeals, Access::kRead, 1, kMostHeldTablesBytes, "held rows");
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  const auto held = ReadHeldTables(
      {reinterpret_cast<const char*>(mapping->data()), mapping->bytes()}, {{5000, 264}});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(held->front().rows, (HeldLayer{5000, {{2500, 2500}}}));
}

TEST_P(HandshakeTest, ASetWhoseRowsComeLaterIsRefusedByName) {
  LoadOptions options;
  options.make_row_source = [this](std::vector<GatherTable> tables) {
    return deferred_.MakeSource(std::move(tables));
  };
  const absl::Status status = Grant(options).status();
  // Not UNIMPLEMENTED: the client would ask for a ring.
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("table set small"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("over shared memory"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("attach over gRPC"));
}

absl::Status Refusal(const ShmRequest& request) {
  return ParseShmRequest({reinterpret_cast<const std::byte*>(&request), sizeof(request)}).status();
}

TEST(ShmRequestTest, SaysWhatIsWrongAndWhatToDo) {
  ShmRequest request{};
  EXPECT_THAT(std::string(Refusal(request).message()),
              AllOf(HasSubstr("first 8 of"), HasSubstr("attach to shm:SOCKET")));
  std::memcpy(request.magic, kShmMagic, sizeof(kShmMagic));
  request.version = kShmVersion;
  EXPECT_THAT(std::string(Refusal(request).message()),
              AllOf(HasSubstr("mode 0 of shared memory"), HasSubstr("1 (mapped) or 2 (ring)")));
  request.mode = static_cast<uint32_t>(ShmMode::kRing);
  EXPECT_TRUE(Refusal(request).ok());
}

TEST(ShmRequestTest, AnotherVersionIsToldFromWhatIsNoRequest) {
  ShmRequest request{};
  const auto bytes = [&](size_t size = sizeof(ShmRequest)) {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&request), size);
  };
  EXPECT_FALSE(IsOfAnotherVersion(bytes()));
  std::memcpy(request.magic, kShmMagic, sizeof(kShmMagic));
  EXPECT_TRUE(IsOfAnotherVersion(bytes()));
  EXPECT_TRUE(IsOfAnotherVersion(bytes(sizeof(ShmRequest) - 1)));
  request.version = kShmVersion;
  EXPECT_FALSE(IsOfAnotherVersion(bytes()));
  EXPECT_FALSE(IsOfAnotherVersion({}));
}

TEST(ShmRequestTest, SaysWhatItsClientTakes) {
  ShmRequest request{};
  std::memcpy(request.magic, kShmMagic, sizeof(kShmMagic));
  request.version = kShmVersion;
  request.mode = static_cast<uint32_t>(ShmMode::kRing);
  // Bits of another year are somebody else's.
  for (const uint32_t takes : {0u, kShmTakesImageTokenIds, ~0u, ~kShmTakesImageTokenIds}) {
    request.takes = takes;
    const auto parsed =
        ParseShmRequest({reinterpret_cast<const std::byte*>(&request), sizeof(request)});
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->takes_image_token_ids, (takes & kShmTakesImageTokenIds) != 0);
    EXPECT_EQ(parsed->takes_held_rows, (takes & kShmTakesHeldRows) != 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, HandshakeTest, ::testing::Values(ShmMode::kMapped, ShmMode::kRing));

}  // namespace
}  // namespace engram
