// A client of a cluster against real stores: every row, a store that is killed, one that drains,
// one that is missing, one that says nothing, and one that lies.
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/cluster/partitioned_stores.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Stores = PartitionedStores;

class ClusterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    PackSmallSet("deepseek-v4.1-flash", 100, *scratch_ / "set");
  }
  static void TearDownTestSuite() { delete scratch_; }

  static std::unique_ptr<Client> Attach(const std::string& target) {
    auto client = Client::Attach(target, {.timeout = absl::Seconds(60)});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  static void ExpectRightRows(Client& client, size_t tokens) {
    const std::vector<int32_t> ids = RealTokenIds(tokens);
    const auto rows = LookUp(client, ids, RealClock().After(absl::Seconds(30)));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows(client.table_set(), client.addresser(), ids));
  }
  // Each row of each layer, in an order that is nobody's.
  static void ExpectEveryRow(Client& client) {
    for (const LayerTableSpec& layer : client.table_set().layers) {
      std::vector<RowId> ids(layer.rows);
      for (uint64_t i = 0; i < layer.rows; ++i) ids[i] = (i * 7919 + 13) % layer.rows;
      std::vector<std::byte> rows(layer.rows * layer.row_bytes);
      const LayerRequest request = {
          .layer = layer.layer, .row_ids = ids, .landing = {.data = rows.data()}};
      const absl::Status status = client.Lookup({.layers = {&request, 1}});
      ASSERT_TRUE(status.ok()) << status;
      for (uint64_t i = 0; i < layer.rows; ++i) {
        ASSERT_TRUE(IsSyntheticRow(layer.layer, ids[i],
                                   {rows.data() + i * layer.row_bytes, layer.row_bytes}))
            << "layer " << layer.layer << " row " << ids[i];
      }
    }
  }

  static ScratchDirectory* scratch_;
};

ScratchDirectory* ClusterTest::scratch_ = nullptr;

TEST_F(ClusterTest, EveryRowOfTwoAndFourPartitions) {
  for (const uint32_t partitions : {2u, 4u}) {
    const Stores stores(*scratch_, partitions, 2);
    const std::unique_ptr<Client> client = Attach(stores.target());
    ASSERT_NE(client, nullptr);
    EXPECT_EQ(client->transport().capabilities().name, "cluster");
    ExpectEveryRow(*client);
    for (const size_t tokens : {1, 64, 2000}) ExpectRightRows(*client, tokens);
    const ClientMetrics metrics = client->metrics();
    ASSERT_TRUE(metrics.routing.has_value());
    EXPECT_GE(metrics.routing->first_attempts, 3 * partitions);
    EXPECT_EQ(metrics.routing->failed, 0u);
  }
}

TEST_F(ClusterTest, AKilledStoreLosesNoLookup) {
  Stores stores(*scratch_, 2, 2);
  const std::unique_ptr<Client> client = Attach(stores.target());
  ASSERT_NE(client, nullptr);
  for (int i = 0; i < 20; ++i) ExpectRightRows(*client, 64);
  std::atomic<bool> is_over = false;
  std::thread killer([&] {
    stores[1].Signal(SIGKILL);
    stores[1].WaitForEnd();
    stores[2].Signal(SIGKILL);
    stores[2].WaitForEnd();
    is_over = true;
  });
  while (!is_over) ExpectRightRows(*client, 64);
  killer.join();
  for (int i = 0; i < 50; ++i) ExpectRightRows(*client, 64);
  EXPECT_EQ(client->metrics().routing->failed, 0u);
}

TEST_F(ClusterTest, ADrainedStoreLosesNoLookup) {
  Stores stores(*scratch_, 2, 2, {"--lame-duck-s", "2"});
  const std::unique_ptr<Client> client = Attach(stores.target());
  ASSERT_NE(client, nullptr);
  stores[0].Signal(SIGTERM);
  stores[3].Signal(SIGTERM);
  while (stores[0].IsRunning() || stores[3].IsRunning()) ExpectRightRows(*client, 64);
  for (int i = 0; i < 20; ++i) ExpectRightRows(*client, 64);
  EXPECT_EQ(client->metrics().routing->failed, 0u);
}

TEST_F(ClusterTest, RowsWithoutAReadyReplicaAreNamedAtTheTimeOut) {
  const Stores stores(*scratch_, 2, 1);
  const std::string nobody = absl::StrCat("unix:", *scratch_ / "nobody");
  const auto client = Client::Attach(absl::StrCat("cluster:", stores.addresses()[0], ",", nobody),
                                     {.timeout = absl::Seconds(1)});
  EXPECT_TRUE(absl::IsUnavailable(client.status())) << client.status();
  EXPECT_THAT(std::string(client.status().message()),
              AllOf(HasSubstr("ready replica"), HasSubstr("rows ["), HasSubstr("nobody")));
}

TEST_F(ClusterTest, AnotherSetIsRefusedOnceEveryStoreWasHeard) {
  const Stores stores(*scratch_, 2, 1);
  const auto client =
      Client::Attach(stores.target(), {.table_set = "no-such", .timeout = absl::Seconds(60)});
  EXPECT_TRUE(absl::IsFailedPrecondition(client.status())) << client.status();
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("they serve"));
}

// Whoever is heard first: what an attach without a name means is what all of them serve.
TEST_F(ClusterTest, OneOfSeveralSetsIsTakenByNameAlone) {
  PackSmallSet("qwen4-exp", 100, *scratch_ / "other");
  const std::string one = absl::StrCat("unix:", *scratch_ / "one"),
                    other = absl::StrCat("unix:", *scratch_ / "two");
  EngramdProcess first({"--table-set", *scratch_ / "set", "--listen", one});
  EngramdProcess second({"--table-set", *scratch_ / "other", "--listen", other});
  first.WaitUntilServing();
  second.WaitUntilServing();
  for (int i = 0; i < 10; ++i) {
    const std::string target =
        absl::StrCat("cluster:", i % 2 ? one : other, ",", i % 2 ? other : one);
    const auto client = Client::Attach(target, {.timeout = absl::Seconds(60)});
    EXPECT_TRUE(absl::IsFailedPrecondition(client.status())) << client.status();
    const auto named =
        Client::Attach(target, {.table_set = "qwen4-exp", .timeout = absl::Seconds(60)});
    EXPECT_TRUE(named.ok()) << named.status();
  }
}

// Without TLS: there is no certificate that the name could be held against.
TEST_F(ClusterTest, StoresAreFoundByAName) {
  EngramdProcess store({"--table-set", *scratch_ / "set", "--listen", "127.0.0.1:0"});
  const std::string address = store.WaitUntilServing();
  const std::string port = address.substr(address.rfind(':'));
  const std::unique_ptr<Client> client = Attach(absl::StrCat("cluster:dns:localhost", port));
  ASSERT_NE(client, nullptr);
  ExpectRightRows(*client, 64);
}

// Takes connections, and says nothing on them.
TEST_F(ClusterTest, AnAddressThatSaysNothingIsWaitedForByNobody) {
  const FileDescriptor silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(silent.get(), reinterpret_cast<sockaddr*>(&place), sizeof(place)), 0);
  ASSERT_EQ(listen(silent.get(), 4), 0);
  socklen_t size = sizeof(place);
  ASSERT_EQ(getsockname(silent.get(), reinterpret_cast<sockaddr*>(&place), &size), 0);
  const Stores stores(*scratch_, 2, 1);
  const std::unique_ptr<Client> client =
      Attach(absl::StrCat(stores.target(), ",127.0.0.1:", ntohs(place.sin_port)));
  ASSERT_NE(client, nullptr);
  ExpectRightRows(*client, 64);
}

// Says that it holds all of the set, and has none of it.
class Liar final : public v1::Lookup::Service {
 public:
  explicit Liar(const Manifest& set) {
    says_.set_instance_id("a11ce");
    says_.set_role(v1::STORE_ROLE_STORE);
    says_.add_transports("grpc");
    v1::HeldTableSet* const held = says_.add_sets();
    held->set_name(set.name);
    held->set_id(set.id);
    held->set_generation(1);
    held->set_state(v1::HOLDING_STATE_SERVING);
    for (const LayerTableSpec& layer : set.layers) {
      v1::HeldTable* const table = held->add_layers();
      table->set_layer(layer.layer);
      table->set_table_rows(layer.rows);
    }
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Liar() override { server_->Shutdown(std::chrono::system_clock::now()); }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  uint64_t refusals() const { return refusals_; }

  grpc::Status Holdings(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::HoldingsResponse, v1::HoldingsRequest>* stream) override {
    stream->Write(says_);
    v1::HoldingsRequest request;
    while (stream->Read(&request)) stream->Write(says_);
    return grpc::Status::OK;
  }
  grpc::Status LookupStream(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::LookupResponse, v1::LookupRequest>* stream) override {
    v1::LookupRequest request;
    while (stream->Read(&request)) {
      ++refusals_;
      v1::LookupResponse response;
      response.set_batch_id(request.batch_id());
      response.set_code(static_cast<uint32_t>(grpc::StatusCode::FAILED_PRECONDITION));
      response.set_message("it holds nothing");
      stream->Write(response);
    }
    return grpc::Status::OK;
  }

 private:
  v1::HoldingsResponse says_;
  std::atomic<uint64_t> refusals_{0};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(ClusterTest, AStoreThatLiesCostsNoLookup) {
  const Stores stores(*scratch_, 2, 1);
  const std::unique_ptr<Client> honest = Attach(stores.target());
  ASSERT_NE(honest, nullptr);
  const Liar liar(honest->table_set());
  const std::unique_ptr<Client> client = Attach(absl::StrCat(stores.target(), ",", liar.address()));
  ASSERT_NE(client, nullptr);
  for (int i = 0; i < 100; ++i) ExpectRightRows(*client, 64);
  const RouterCounters routing = *client->metrics().routing;
  EXPECT_EQ(routing.failed, 0u);
  // Once for each partition, and for no map again.
  EXPECT_GT(liar.refusals(), 0u);
  EXPECT_LE(liar.refusals(), 2u);
  EXPECT_EQ(routing.lies, liar.refusals());
}

}  // namespace
}  // namespace engram::integration
