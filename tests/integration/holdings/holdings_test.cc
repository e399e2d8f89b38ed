// What an engramd says of itself on Holdings streams, and the leases that they are: by the SDK's
// stream, by a client that is killed, and by such as mean no good.
#include <grpcpp/grpcpp.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/cluster/holdings_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

constexpr char kName[] = "qwen4-exp";
constexpr char kToken[] = "a-token-of-a-worker";

// What is heard of one store.
class Ear final : public HoldingsListener {
 public:
  void Heard(StoreState state) override {
    MutexLock lock(mutex_);
    heard_.push_back(std::move(state));
    changed_.NotifyAll();
  }
  void Lost(const std::string&, absl::Status why) override {
    MutexLock lock(mutex_);
    lost_.push_back(std::move(why));
    changed_.NotifyAll();
  }
  // The first that is so of all that is heard, from here on or before.
  StoreState Await(absl::FunctionRef<bool(const StoreState&)> is_so) {
    MutexLock lock(mutex_);
    for (size_t i = 0;; ++i) {
      while (i == heard_.size()) changed_.Wait(mutex_);
      if (is_so(heard_[i])) return heard_[i];
    }
  }
  absl::Status AwaitLost() {
    MutexLock lock(mutex_);
    while (lost_.empty()) changed_.Wait(mutex_);
    return lost_.front();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<StoreState> heard_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> lost_ ABSL_GUARDED_BY(mutex_);
};

const HeldSet* Find(const StoreState& store, const std::string& id) {
  for (const HeldSet& set : store.sets) {
    if (set.set_id == id) return &set;
  }
  return nullptr;
}

class HoldingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet(kName, 500, scratch_ / "a");
    PackSmallSet(kName, 700, scratch_ / "b");
    PackSmallSet("longcat-flash-lite", 300, scratch_ / "other");
  }
  std::vector<std::string> Flags(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"--table-set", scratch_ / "a", "--table-set", scratch_ / "other",
                               "--listen", "127.0.0.1:0", "--admin-grpc-listen", Admin()});
    return more;
  }
  std::string Admin() const { return "unix:" + (scratch_ / "admin"); }
  std::string IdOf(const std::string& set) const {
    return ReadFile(scratch_ / (set + "/manifest.sha256")).substr(0, 64);
  }
  Outcome Ask(const std::string& words) const {
    return RunShell(absl::StrCat("$ENGRAM admin ", words, " --admin ", Admin()));
  }
  void Publish(const std::string& set, const std::string& flags = "") const {
    const Outcome outcome = Ask(absl::StrCat("publish ", scratch_ / set, " ", flags));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  // Clients that hold the set by such a stream; nothing: it is not here.
  std::optional<int> Leases(const std::string& set) const {
    const auto list = nlohmann::json::parse(Ask("list --json").out, nullptr, false);
    for (const auto& one : list["table_sets"]) {
      if (one["id"] == IdOf(set)) return one["leases"]["holdings"].get<int>();
    }
    return std::nullopt;
  }
  void ExpectLeases(const std::string& set, std::optional<int> count) const {
    for (int i = 0; i < 200 && Leases(set) != count; ++i) {
      absl::SleepFor(absl::Milliseconds(50));
    }
    EXPECT_EQ(Leases(set), count) << set;
  }
  std::unique_ptr<HoldingsStream> Listen(const std::string& address, Ear* ear,
                                         const SecurityOptions& security = {}) {
    const auto credentials = GrpcCredentials::Create(security, address).value();
    return std::make_unique<HoldingsStream>(
        HoldingsStream::Options{.address = address,
                                .credentials = credentials,
                                .channel = OpenChannel(address, *credentials),
                                .driver = driver_,
                                .listener = ear});
  }

  ScratchDirectory scratch_;
  const std::shared_ptr<QueueDriver> driver_ = QueueDriver::Create(absl::ZeroDuration()).value();
  Ear ear_;
};

TEST_F(HoldingsTest, AllIsSaidAtOnceAndWhatIsPublishedAfterwards) {
  EngramdProcess engramd(Flags({"--zone", "rack-7", "--retire-grace-s", "3600"}));
  const std::string address = engramd.WaitUntilServing();
  const auto stream = Listen(address, &ear_);
  const StoreState first = ear_.Await([](const StoreState&) { return true; });
  EXPECT_THAT(first.instance_id, MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(first.address, address);
  EXPECT_EQ(first.role, StoreRole::kStore);
  EXPECT_EQ(first.zone, "rack-7");
  EXPECT_THAT(first.transports, ElementsAre("grpc"));
  ASSERT_THAT(first.sets, SizeIs(2));
  const HeldSet* const a = Find(first, IdOf("a"));
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->name, kName);
  EXPECT_EQ(a->state, HoldingState::kServing);
  EXPECT_EQ(a->generation, 0u);
  // As the set says itself, whole layers.
  const auto client = Client::Attach("embedded:" + (scratch_ / "a"), {});
  ASSERT_TRUE(client.ok()) << client.status();
  const Manifest& manifest = (*client)->table_set();
  ASSERT_EQ(a->layers.size(), manifest.layers.size());
  for (size_t i = 0; i < a->layers.size(); ++i) {
    EXPECT_EQ(a->layers[i].layer, manifest.layers[i].layer);
    EXPECT_EQ(a->layers[i].rows.table_rows, manifest.layers[i].rows);
    EXPECT_THAT(a->layers[i].rows.ranges, ElementsAre(RowRange{0, manifest.layers[i].rows}));
  }
  stream->Use({IdOf("a")});
  ExpectLeases("a", 1);
  Publish("b", "--generation 7");
  const StoreState then =
      ear_.Await([&](const StoreState& state) { return Find(state, IdOf("b")) != nullptr; });
  EXPECT_EQ(then.instance_id, first.instance_id);
  EXPECT_EQ(Find(then, IdOf("b"))->state, HoldingState::kServing);
  EXPECT_EQ(Find(then, IdOf("b"))->generation, 7u);
  EXPECT_EQ(Find(then, IdOf("a"))->state, HoldingState::kSuperseded);
  // Another set at that generation moves nothing.
  const Outcome same = Ask("publish " + (scratch_ / "a") + " --generation 7");
  EXPECT_EQ(same.exit_code, 1);
  EXPECT_THAT(same.err, HasSubstr("generation 7 already"));
  EXPECT_THAT(Ask("list").out, HasSubstr("generation 7"));
}

TEST_F(HoldingsTest, ASupersededSetStaysForAsLongAsItIsHeld) {
  EngramdProcess engramd(Flags({"--retire-grace-s", "3600"}));
  const std::string address = engramd.WaitUntilServing();
  auto stream = Listen(address, &ear_);
  stream->Use({IdOf("a")});
  ExpectLeases("a", 1);
  Publish("b");
  Publish("other");  // which takes longer than a set that nobody has
  ExpectLeases("a", 1);
  stream.reset();
  ExpectLeases("a", std::nullopt);
  EXPECT_TRUE(engramd.WaitForLine("retired qwen4-exp " + IdOf("a")));
}

TEST_F(HoldingsTest, AKilledClientsLeaseEnds) {
  EngramdProcess engramd(Flags({"--retire-grace-s", "3600"}));
  const std::string address = engramd.WaitUntilServing();
  const std::string line = absl::StrCat("echo $$; exec tests/integration/holdings/holdings_client ",
                                        address, " ", IdOf("a"), " < /dev/zero");
  std::FILE* const client = popen(line.c_str(), "r");
  ASSERT_NE(client, nullptr);
  int pid = 0;
  char said[16] = {};
  ASSERT_EQ(std::fscanf(client, "%d %15s", &pid, said), 2);
  EXPECT_STREQ(said, "holds");
  ExpectLeases("a", 1);
  Publish("b");
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  ExpectLeases("a", std::nullopt);
  pclose(client);
}

TEST_F(HoldingsTest, DrainingIsToldWhileItStillServes) {
  EngramdProcess engramd(Flags({"--lame-duck-s", "86400"}));
  const std::string address = engramd.WaitUntilServing();
  const auto stream = Listen(address, &ear_);
  ear_.Await([](const StoreState&) { return true; });
  engramd.Signal(SIGTERM);
  ear_.Await([&](const StoreState& state) {
    return Find(state, IdOf("a"))->state == HoldingState::kDraining;
  });
  // Sockets are open, for all.
  const auto client = Client::Attach("grpc:" + address, {.table_set = kName});
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_TRUE(LookUp(**client, RealTokenIds(20), RealClock().Now() + absl::Seconds(20)).ok());
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), -SIGTERM);
  EXPECT_EQ(ear_.AwaitLost().code(), absl::StatusCode::kUnavailable);
}

TEST_F(HoldingsTest, NobodyIsToldOfSetsThatHeMayNotHave) {
  WriteFile(scratch_ / "tokens", absl::StrCat("worker ", kToken, "\n"));
  WriteFile(scratch_ / "token", kToken);
  EngramdProcess engramd(
      Flags({"--token-file", scratch_ / "tokens", "--allow", "worker=longcat-flash-lite"}));
  const std::string address = engramd.WaitUntilServing();
  Ear stranger;
  const auto nothing = Listen(address, &stranger);
  EXPECT_EQ(stranger.AwaitLost().code(), absl::StatusCode::kUnauthenticated);
  const auto stream = Listen(address, &ear_, {.token_file = scratch_ / "token"});
  const StoreState heard = ear_.Await([](const StoreState&) { return true; });
  ASSERT_THAT(heard.sets, SizeIs(1));
  EXPECT_EQ(heard.sets[0].name, "longcat-flash-lite");
  stream->Use({IdOf("a"), IdOf("other")});
  ExpectLeases("other", 1);
  ExpectLeases("a", 0);
}

// Each on a connection of its own, at once: others are served, and no lease is left.
TEST_F(HoldingsTest, WhoMeansNoGoodIsLetGo) {
  EngramdProcess engramd(Flags());
  const std::string address = engramd.WaitUntilServing();
  const auto stub = [&] {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16);
    return v1::Lookup::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  };
  const auto end_of = [&](const std::vector<std::string>& ids) {
    grpc::ClientContext context;
    const auto stream = stub()->Holdings(&context);
    v1::HoldingsRequest request;
    for (const std::string& id : ids) request.add_table_set_ids(id);
    stream->Write(request);
    v1::HoldingsResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  };
  for (const std::vector<std::string>& ids : {std::vector<std::string>(5'000, IdOf("a")),
                                              std::vector<std::string>(5'000, "a"),
                                              {std::string(1'000'000, 'a')},
                                              {kName},
                                              {std::string(64, '\0')}}) {
    const grpc::Status end = end_of(ids);
    EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << end.error_message();
  }
  // More than gRPC takes: it ends, whatever is said of it.
  end_of(std::vector<std::string>(100'000, IdOf("a")));
  ExpectLeases("a", 0);
  // Never reads, and says the same thing again and again.
  auto context = std::make_unique<grpc::ClientContext>();
  const auto never = stub();
  auto stream = never->Holdings(context.get());
  v1::HoldingsRequest request;
  request.add_table_set_ids(IdOf("a"));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(stream->Write(request));
  ExpectLeases("a", 1);
  const auto client = Client::Attach("grpc:" + address, {.table_set = kName});
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_TRUE(LookUp(**client, RealTokenIds(20), RealClock().Now() + absl::Seconds(20)).ok());
  // engramd lets it go by itself.
  ExpectLeases("a", 0);
  context->TryCancel();
  stream->Finish();
}

}  // namespace
}  // namespace engram::integration
