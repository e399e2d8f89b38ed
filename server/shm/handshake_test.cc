#include "server/shm/handshake.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
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

INSTANTIATE_TEST_SUITE_P(Modes, HandshakeTest, ::testing::Values(ShmMode::kMapped, ShmMode::kRing));

}  // namespace
}  // namespace engram
