#include "client/prometheus.h"

#include <prometheus/text_serializer.h>

#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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
