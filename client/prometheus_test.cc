#include "client/prometheus.h"

#include <prometheus/text_serializer.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transport/ticketed_transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/cluster/router_types.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// As a cluster's: with counters of its router.
class Routed final : public TicketedTransport {
 public:
  explicit Routed(AttachedTableSet set)
      : TicketedTransport({}), set_(std::move(set)), capabilities_{} {
    counters_.first_attempts = 40;
    counters_.resends[static_cast<size_t>(ResendReason::kSilent)] = 3;
    counters_.refusals[static_cast<size_t>(ResendReason::kBusy)] = 2;
    counters_.hedges = 5;
    // More of both than is shown of one client.
    view_.up_stores_of_piece.assign(100, 2);
    view_.up_stores_of_piece[98] = 1;
    view_.stores.push_back({"store-0:7300", StoreSight::kUp});
    view_.stores.push_back({"store-1:7300", StoreSight::kEjected});
    for (int i = 2; i < 40; ++i) {
      view_.stores.push_back({absl::StrCat("store-", i, ":7300"), StoreSight::kUnheard});
    }
    view_.finds_addresses = false;
  }
  ~Routed() override { ReapAll(); }
  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return set_; }
  std::optional<RouterCounters> routing() const override { return counters_; }
  std::optional<ClusterView> cluster() const override { return view_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Prepare(const BatchRequest&) override { return absl::OkStatus(); }

 private:
  const AttachedTableSet set_;
  const Capabilities capabilities_;
  RouterCounters counters_;
  ClusterView view_;
};

TEST(ClientCollectable, ShowsWhatTheRouterOfAClusterDid) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/client_routing");
  ASSERT_TRUE(testing::WriteSmallTableSet({}, directory).ok());
  const std::shared_ptr<Client> single = Client::Attach("embedded:" + directory, {}).value();
  const std::shared_ptr<Client> client =
      Client::Create(std::make_unique<Routed>(single->transport().table_set())).value();
  ClientCollectable collectable;
  collectable.Add(single, "single");
  EXPECT_THAT(prometheus::TextSerializer().Serialize(collectable.Collect()),
              Not(HasSubstr("hedges_total")));
  collectable.Add(client, "w");
  const std::string page = prometheus::TextSerializer().Serialize(collectable.Collect());
  const std::string of_w = absl::StrCat("{client=\"w\",name=\"", client->table_set().name, "\"");
  for (const std::string& line :
       {absl::StrCat("part_first_attempts_total", of_w, "} 40"),
        absl::StrCat("part_resends_total", of_w, ",reason=\"silent\"} 3"),
        absl::StrCat("part_resends_refused_total", of_w, ",reason=\"busy\"} 2"),
        absl::StrCat("hedges_total", of_w, "} 5"), absl::StrCat("partitions", of_w, "} 100"),
        absl::StrCat("partition_up_stores", of_w, ",partition=\"98\"} 1"),
        absl::StrCat("partition_up_stores", of_w, ",partition=\"62\"} 2"),
        absl::StrCat("stores", of_w, ",standing=\"up\"} 1"),
        absl::StrCat("stores", of_w, ",standing=\"unheard\"} 38"),
        absl::StrCat("store_trouble", of_w, ",store=\"store-1:7300\",standing=\"ejected\"} 1"),
        absl::StrCat("store_trouble", of_w, ",store=\"store-16:7300\",standing=\"unheard\"} 1"),
        absl::StrCat("finds_addresses", of_w, "} 0")}) {
    EXPECT_THAT(page, HasSubstr("\nengram_client_" + line + "\n"));
  }
  EXPECT_THAT(page, Not(HasSubstr("partition=\"63\"")));
  EXPECT_THAT(page, Not(HasSubstr("store-0:7300")));
  EXPECT_THAT(page, Not(HasSubstr("store-17:7300")));
  for (const char* const family : {"hedges_total", "partitions", "finds_addresses"}) {
    EXPECT_THAT(page, Not(HasSubstr(absl::StrCat(family, "{client=\"single\""))));
  }
  std::filesystem::remove_all(directory);
}

// Every counter against what this test did.
TEST(ClientCollectable, ShowsWhatTheClientDid) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/client_metrics");
  ASSERT_TRUE(testing::WriteSmallTableSet({}, directory).ok());
  auto attached = Client::Attach("embedded:" + directory, {});
  ASSERT_TRUE(attached.ok()) << attached.status();
  std::shared_ptr<Client> client = *std::move(attached);
  const uint32_t row_bytes = client->table_set().layers[0].row_bytes;
  const std::vector<RowId> ids = {1, 2, 3, 2, 1};
  std::vector<std::byte> rows(ids.size() * row_bytes);
  const LayerRequest layer = {.layer = client->table_set().layers[0].layer,
                              .row_ids = ids,
                              .landing = {.data = rows.data()}};
  BatchRequest batch{.layers = {&layer, 1}, .deadline = MonotonicTime::Infinite()};
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client->Lookup(batch).ok());
  const std::vector<RowId> beyond = {1'000'000'000};
  const LayerRequest wrong = {
      .layer = layer.layer, .row_ids = beyond, .landing = {.data = rows.data()}};
  batch.layers = {&wrong, 1};
  EXPECT_EQ(client->Lookup(batch).code(), absl::StatusCode::kInvalidArgument);
  Client::Plan plan;
  plan.tokens = 1;
  plan.row_ids = {ids};
  client->MakeDistinct(&plan);

  const std::shared_ptr<Client> idle = Client::Attach("embedded:" + directory, {}).value();
  ClientCollectable collectable;
  collectable.Add(client, "w");
  collectable.Add(idle, "idle");
  const std::string page = prometheus::TextSerializer().Serialize(collectable.Collect());
  for (const std::string& line :
       {std::string("batches_total{client=\"w\"} 3"),
        std::string("refused_total{client=\"w\",code=\"INVALID_ARGUMENT\"} 1"),
        std::string("waits_total{client=\"w\",code=\"OK\"} 3"),
        std::string("rows_total{client=\"w\"} 15"),
        absl::StrCat("row_bytes_total{client=\"w\"} ", 15 * row_bytes),
        std::string("planned_rows_total{client=\"w\"} 5"),
        std::string("distinct_rows_total{client=\"w\"} 3"),
        std::string("wait_seconds_count{client=\"w\"} 3")}) {
    EXPECT_THAT(page, HasSubstr("\nengram_client_" + line + "\n"));
  }
  EXPECT_THAT(page, HasSubstr("\nengram_client_batches_total{client=\"idle\"} 0\n"));
  // Of a family's name there is one description, however many clients there are.
  const std::string type = "# TYPE engram_client_batches_total ";
  EXPECT_EQ(page.find(type), page.rfind(type));
  client.reset();
  EXPECT_THAT(prometheus::TextSerializer().Serialize(collectable.Collect()),
              Not(HasSubstr("client=\"w\"")));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace engram
