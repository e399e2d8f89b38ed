// Rows over RDMA from an owner that holds a part of the table set, written by it and read by the
// client.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/partition/partition.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

constexpr uint64_t kColumnRows = kRows / kColumns;

// Rows of the set's first layer in `rows`, a registered buffer.
absl::Status LookUp(Transport& transport, const std::vector<RowId>& ids,
                    std::vector<std::byte>& rows) {
  const LayerRequest layers[] = {{.layer = 1, .row_ids = ids, .landing = {.data = rows.data()}}};
  const absl::StatusOr<Ticket> ticket = transport.Submit({.layers = layers});
  if (!ticket.ok()) return ticket.status();
  absl::Status status = transport.Wait(*ticket);
  transport.Reap(*ticket);
  return status;
}

TEST(RdmaPartition, RowsThatAreHeldAreExactAndOthersAreRefused) {
  // Columns 1 and 3 of both layers, two ranges that lie apart.
  const RdmaOwner owner({Device()},
                        std::vector<HeldColumns>{{1, {{1, 1}, {3, 1}}}, {14, {{1, 1}, {3, 1}}}});
  for (const bool reads : {false, true}) {
    SCOPED_TRACE(reads ? "read" : "write");
    const auto transport = owner.Attach(reads);
    ASSERT_NE(transport, nullptr);
    ASSERT_EQ(transport->table_set().held.size(), 2u);
    std::vector<std::byte> rows(64 * kRowBytes[0]);
    ASSERT_TRUE(transport->Register(absl::MakeSpan(rows)).ok());
    const std::vector<RowId> held = {kColumnRows, 2 * kColumnRows - 1, 3 * kColumnRows, kRows - 1,
                                     kColumnRows + 77};
    ASSERT_TRUE(LookUp(*transport, held, rows).ok());
    for (size_t i = 0; i < held.size(); ++i) {
      EXPECT_TRUE(IsSyntheticRow(1, held[i], {&rows[i * kRowBytes[0]], kRowBytes[0]})) << held[i];
    }
    for (const RowId row : {RowId{0}, kColumnRows - 1, 2 * kColumnRows, 3 * kColumnRows - 1}) {
      const absl::Status status = LookUp(*transport, {kColumnRows, row}, rows);
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_NE(status.message().find("[5000, 10000), [15000, 20000)"), std::string::npos)
          << status;
    }
    EXPECT_TRUE(LookUp(*transport, held, rows).ok());  // nothing was broken by it
    EXPECT_TRUE(transport->Unregister(absl::MakeSpan(rows)).ok());
  }
}

}  // namespace
}  // namespace engram::rdma
