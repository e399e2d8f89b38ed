// Every way to rows, held side by side: the same batches give the same bytes, the same wrong ones
// the same code.
#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

struct Way {
  std::string name;
  std::unique_ptr<Client> client;
};

absl::Span<std::byte> BytesOf(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

class TransportsAgreeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    const std::string set = *scratch_ / "set", unix_socket = "unix:" + (*scratch_ / "s");
    PackSmallSet("deepseek-v4.1-flash", 500, set);
    engramd_ = new EngramdProcess({"--table-set", set, "--listen", "127.0.0.1:0", "--listen",
                                   unix_socket, "--shm-socket", *scratch_ / "shm"});
    const std::string tcp = engramd_->WaitUntilServing(0);
    ASSERT_TRUE(engramd_->WaitForLine("shared memory at"));
    ways_ = new std::vector<Way>;
    Add("embedded:" + set, {});
    Add("shm:" + (*scratch_ / "shm"), {});
    Add("shm:" + (*scratch_ / "shm"), {.table_set = {}, .mode = "ring"});
    for (const std::string& address : {tcp, unix_socket}) {
      Add("grpc:" + address, {.table_set = {}, .mode = "stream"});
      Add("grpc:" + address, {.table_set = {}, .mode = "unary"});
      Add("grpc:" + address, {.table_set = {}, .mode = "stream", .connections = 2, .streams = 3});
    }
  }
  static void TearDownTestSuite() {
    const auto* suite = ::testing::UnitTest::GetInstance()->current_test_suite();
    if (suite->Failed()) std::cerr << engramd_->Log();
    delete ways_;
    delete engramd_;
    delete scratch_;
  }
  static void Add(const std::string& target, const AttachOptions& options) {
    auto client = Client::Attach(target, options);
    ASSERT_TRUE(client.ok()) << target << ": " << client.status();
    ways_->push_back(
        {absl::StrCat(target, " ", options.mode, " ", options.connections), *std::move(client)});
  }

  // Rows of layers 14 and 1, in that order, the second in groups with gaps; the gaps included.
  static absl::StatusOr<std::string> Rows(Client& client, const std::vector<RowId>& first,
                                          const std::vector<RowId>& second) {
    constexpr uint64_t kRowBytes = 264, kGroup = 5, kStride = kGroup * kRowBytes + 72;
    const uint64_t first_bytes = first.size() * kRowBytes;
    std::string rows(first_bytes + (second.size() + kGroup - 1) / kGroup * kStride, '\xA5');
    auto* const at = reinterpret_cast<std::byte*>(rows.data());
    const std::vector<LayerRequest> layers = {
        {.layer = 14, .row_ids = first, .landing = {.data = at}},
        {.layer = 1,
         .row_ids = second,
         .landing = {
             .data = at + first_bytes, .group_rows = kGroup, .group_stride_bytes = kStride}}};
    const absl::Status status =
        client.Lookup({.layers = layers, .deadline = RealClock().Now() + absl::Seconds(60)});
    if (!status.ok()) return status;
    return rows;
  }

  static ScratchDirectory* scratch_;
  static EngramdProcess* engramd_;
  static std::vector<Way>* ways_;
};

ScratchDirectory* TransportsAgreeTest::scratch_ = nullptr;
EngramdProcess* TransportsAgreeTest::engramd_ = nullptr;
std::vector<Way>* TransportsAgreeTest::ways_ = nullptr;

TEST_F(TransportsAgreeTest, OnTheBytesOfEveryBatch) {
  std::mt19937_64 random(11);
  const Manifest& manifest = ways_->front().client->table_set();
  const uint64_t rows1 = manifest.FindLayer(1)->rows, rows14 = manifest.FindLayer(14)->rows;
  for (int round = 0; round < 24; ++round) {
    // From one row to more than one unary reply; some with many repeats, which travel once.
    const uint64_t values = round % 3 == 0 ? 50 : rows1;
    std::vector<RowId> first(1 + random() % (uint64_t{1} << (2 + round / 2)));
    std::vector<RowId> second(1 + random() % (uint64_t{8} << (round / 2 + 1)));
    for (RowId& id : first) id = random() % std::min(values, rows14);
    for (RowId& id : second) id = random() % values;
    const auto expected = Rows(*ways_->front().client, first, second);
    ASSERT_TRUE(expected.ok()) << expected.status();
    for (const Way& way : *ways_) {
      const auto rows = Rows(*way.client, first, second);
      ASSERT_TRUE(rows.ok()) << way.name << ": " << rows.status();
      ASSERT_TRUE(*rows == *expected) << way.name << ", round " << round;
    }
  }
}

// One copy of each row, and where each of a token's rows is among them.
TEST_F(TransportsAgreeTest, OnDistinctRowsAndTheirInverse) {
  const Manifest& manifest = ways_->front().client->table_set();
  const size_t layers = manifest.layers.size(), columns = manifest.scheme.Columns();
  constexpr uint64_t kGap = 24;
  Client::Plan plan;  // of one client after the other, smaller and larger
  for (const size_t tokens : {700, 3, 400}) {
    const std::vector<int32_t> ids = RealTokenIds(tokens);
    const std::string expected = ExpectedRows(manifest, ways_->front().client->addresser(), ids);
    for (const Way& way : *ways_) {
      ASSERT_TRUE(way.client->PlanTokens(Addresser::Start(), ids, {}, &plan).ok());
      way.client->MakeDistinct(&plan);
      way.client->MakeDistinct(&plan);  // a second time changes nothing
      std::vector<std::vector<std::byte>> rows(layers);
      std::vector<Landing> landings(layers);
      for (size_t l = 0; l < layers; ++l) {
        const uint64_t stride = manifest.layers[l].row_bytes + kGap;
        rows[l].assign(plan.row_ids[l].size() * stride, std::byte{0xA5});
        landings[l] = {.data = rows[l].data(), .group_rows = 1, .group_stride_bytes = stride};
        ASSERT_EQ(plan.inverse[l].size(), tokens * columns);
        EXPECT_TRUE(tokens < 10 || plan.row_ids[l].size() < tokens * columns) << "no row repeats";
      }
      const auto ticket = way.client->Submit(plan, landings, RealClock().Now() + absl::Seconds(60));
      ASSERT_TRUE(ticket.ok()) << way.name << ": " << ticket.status();
      const char* want = expected.data();
      std::vector<const char*> of_layer;
      for (size_t l = 0; l < layers; ++l) {
        const uint32_t row_bytes = manifest.layers[l].row_bytes;
        ASSERT_TRUE(way.client->WaitLayer(*ticket, l).ok()) << way.name;
        for (size_t i = 0; i < tokens * columns; ++i) {
          const std::byte* const got = &rows[l][plan.inverse[l][i] * (row_bytes + kGap)];
          const char* const row =
              want + i / columns * expected.size() / tokens + i % columns * row_bytes;
          ASSERT_EQ(std::memcmp(got, row, row_bytes), 0)
              << way.name << ", layer " << l << ", " << i;
          ASSERT_EQ(got[row_bytes], std::byte{0xA5}) << way.name << ": a gap was written to";
        }
        want += columns * row_bytes;
      }
      EXPECT_TRUE(way.client->Wait(*ticket).ok()) << way.name;
      way.client->Reap(*ticket);
    }
  }
}

// Token ids in, rows out, the same buffers from step to step, several steps under way.
TEST_F(TransportsAgreeTest, OnStepsThatArePrefetched) {
  constexpr size_t kSteps = 12, kUnderWay = 3, kTokens = 6;
  const Manifest& manifest = ways_->front().client->table_set();
  const std::vector<int32_t> ids = RealTokenIds(kSteps * kTokens);
  const std::string expected = ExpectedRows(manifest, ways_->front().client->addresser(), ids);
  for (const Way& way : *ways_) {
    Client& client = *way.client;
    struct Step {
      Client::Plan plan;
      std::string rows;
      Ticket ticket;
    };
    std::vector<Step> steps(kUnderWay);
    for (Step& step : steps) {
      step.rows.resize(expected.size() / kSteps);
      ASSERT_TRUE(client.Register(BytesOf(step.rows)).ok()) << way.name;
    }
    SequenceState state = Addresser::Start();
    std::string all;
    for (size_t s = 0; s < kSteps + kUnderWay; ++s) {
      Step& step = steps[s % kUnderWay];
      if (s >= kUnderWay) {
        for (size_t l = 0; l < manifest.layers.size(); ++l) {
          ASSERT_TRUE(client.WaitLayer(step.ticket, l).ok()) << way.name;
        }
        client.Reap(step.ticket);
        all += step.rows;
      }
      if (s >= kSteps) continue;
      std::fill(step.rows.begin(), step.rows.end(), '\xA5');
      const auto some = absl::MakeConstSpan(ids).subspan(s * kTokens, kTokens);
      const auto ticket =
          client.Prefetch(state, some, {}, DenseLandings(manifest, BytesOf(step.rows).data()),
                          RealClock().Now() + absl::Seconds(60), &step.plan);
      ASSERT_TRUE(ticket.ok()) << way.name << ": " << ticket.status();
      step.ticket = *ticket;
      ASSERT_TRUE(client.addresser().Advance(some, {}, &state).ok());
    }
    EXPECT_TRUE(all == expected) << way.name;
    for (Step& step : steps) EXPECT_TRUE(client.Unregister(BytesOf(step.rows)).ok()) << way.name;
  }
}

TEST_F(TransportsAgreeTest, OnTheLargestPrefill) {
  // 786,432 rows, 207 MB.
  const std::vector<int32_t> ids = RealTokenIds(16'384);
  const std::string expected =
      ExpectedRows(ways_->front().client->table_set(), ways_->front().client->addresser(), ids);
  for (const Way& way : *ways_) {
    const auto rows = LookUp(*way.client, ids, RealClock().Now() + absl::Seconds(120));
    ASSERT_TRUE(rows.ok()) << way.name << ": " << rows.status();
    EXPECT_TRUE(*rows == expected) << way.name;
  }
}

TEST_F(TransportsAgreeTest, OnWhatIsWrong) {
  std::vector<std::byte> landing(264 * 16);
  const uint64_t rows1 = ways_->front().client->table_set().FindLayer(1)->rows;
  const std::vector<RowId> good = {1, 2}, beyond = {0, rows1}, huge = {~RowId{0}}, none;
  const Landing there = {.data = landing.data()};
  const Landing nowhere;
  const Landing narrow = {.data = landing.data(), .group_rows = 2, .group_stride_bytes = 527};
  const LayerRequest fine = {.layer = 1, .row_ids = good, .landing = there};
  const std::vector<std::pair<std::string, std::vector<LayerRequest>>> batches = {
      {"no layer", {}},
      {"unknown layer", {{.layer = 2, .row_ids = good, .landing = there}}},
      {"layer twice", {fine, fine}},
      {"no rows", {{.layer = 1, .row_ids = none, .landing = there}}},
      {"a row beyond the table", {{.layer = 1, .row_ids = beyond, .landing = there}}},
      {"a row far beyond it", {fine, {.layer = 14, .row_ids = huge, .landing = there}}},
      {"no landing", {{.layer = 1, .row_ids = good, .landing = nowhere}}},
      {"a stride too small", {{.layer = 1, .row_ids = good, .landing = narrow}}},
  };
  for (const Way& way : *ways_) {
    Client& client = *way.client;
    std::fill(landing.begin(), landing.end(), std::byte{0xA5});
    for (const auto& [what, layers] : batches) {
      EXPECT_EQ(client.Lookup({.layers = layers}).code(), absl::StatusCode::kInvalidArgument)
          << way.name << ": " << what;
    }
    EXPECT_EQ(
        client.Lookup({.layers = {&fine, 1}, .deadline = RealClock().Now() - absl::Seconds(1)})
            .code(),
        absl::StatusCode::kDeadlineExceeded)
        << way.name;
    EXPECT_EQ(std::count(landing.begin(), landing.end(), std::byte{0xA5}),
              static_cast<std::ptrdiff_t>(landing.size()))
        << way.name;
    // A ticket that was reaped is known to none of them.
    const absl::StatusOr<Ticket> ticket = client.Submit({.layers = {&fine, 1}});
    ASSERT_TRUE(ticket.ok()) << way.name << ": " << ticket.status();
    EXPECT_TRUE(client.Wait(*ticket).ok()) << way.name;
    EXPECT_EQ(client.Poll(*ticket), TicketState::kLanded) << way.name;
    client.Reap(*ticket);
    EXPECT_EQ(client.Poll(*ticket), TicketState::kReaped) << way.name;
    EXPECT_EQ(client.Wait(*ticket).code(), absl::StatusCode::kFailedPrecondition) << way.name;
  }
}

TEST_F(TransportsAgreeTest, OnBatchesThatAreTooLarge) {
  // One more than the least that any of them takes.
  std::vector<RowId> ids;
  std::vector<std::byte> row(264);
  for (const Way& way : *ways_) {
    Client& client = *way.client;
    const uint64_t most = client.transport().capabilities().max_batch_rows;
    ASSERT_GT(most, 0u);
    if (most > uint64_t{1} << 23) continue;  // an embedded store has no limit but memory
    ids.assign(most + 1, 3);
    // All land in one place: nothing does.
    const LayerRequest layer = {.layer = 1, .row_ids = ids, .landing = {.data = row.data()}};
    EXPECT_EQ(client.Lookup({.layers = {&layer, 1}}).code(), absl::StatusCode::kInvalidArgument)
        << way.name;
  }
}

}  // namespace
}  // namespace engram::integration
