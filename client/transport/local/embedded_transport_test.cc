#include "client/transport/local/embedded_transport.h"

#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/sha256.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

class EmbeddedTransportTest : public ::testing::Test {
 protected:
  EmbeddedTransportTest()
      : directory_(::testing::TempDir() + "/embedded_transport_test"),
        manifest_(testing::WriteSmallTableSet({}, directory_).value()) {}
  const std::string directory_;
  const Manifest manifest_;
};

TEST_F(EmbeddedTransportTest, HasLandedWhenSubmitReturns) {
  const auto transport = EmbeddedTransport::Attach(directory_, "").value();
  const std::vector<RowId> ids = {4999, 0, 17, 17};
  std::vector<std::byte> rows(ids.size() * 264);
  const std::vector<LayerRequest> layers = {{.layer = 1, .row_ids = ids, .landing = {rows.data()}}};
  const Ticket ticket = transport->Submit({.layers = layers}).value();
  EXPECT_EQ(transport->Poll(ticket), TicketState::kLanded);
  EXPECT_TRUE(transport->Wait(ticket).ok());
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_TRUE(IsSyntheticRow(1, ids[i], {&rows[i * 264], 264}));
  }
  transport->Reap(ticket);
  EXPECT_EQ(transport->Poll(ticket), TicketState::kReaped);
  EXPECT_EQ(transport->Wait(ticket).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EmbeddedTransportTest, RefusesWhatIsOutOfRangeOrLate) {
  const auto transport = EmbeddedTransport::Attach(directory_, "").value();
  std::vector<std::byte> rows(264);
  std::vector<RowId> ids = {5000};
  const std::vector<LayerRequest> layers = {{.layer = 1, .row_ids = ids, .landing = {rows.data()}}};
  const absl::Status status = transport->Submit({.layers = layers}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("5000"));
  ids[0] = 1;
  EXPECT_EQ(transport->Submit({.layers = layers, .deadline = RealClock().Now()}).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EmbeddedTransportTest, AttachesByIdOrNameAndNamesWhatIsThere) {
  EXPECT_TRUE(EmbeddedTransport::Attach(directory_, manifest_.id).ok());
  EXPECT_TRUE(EmbeddedTransport::Attach(directory_, manifest_.name).ok());
  const absl::Status status = EmbeddedTransport::Attach(directory_, "other").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(manifest_.id));
  EXPECT_EQ(EmbeddedTransport::Attach(directory_ + "/none", "").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(EmbeddedTransportTest, WrongFilesAreDataLossNotAWrongCall) {
  const std::string text = "format_version: 2\n";
  std::ofstream(directory_ + "/manifest.textproto") << text;
  std::ofstream(directory_ + "/manifest.sha256") << Sha256Hex(text) << "\n";
  EXPECT_EQ(EmbeddedTransport::Attach(directory_, "").status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace engram
