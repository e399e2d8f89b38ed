// Attaching over gRPC, and what several transports share: an attachment, a queue's driver.
#include "client/transport/grpc/grpc_attachment.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/grpc/testing/fake_lookup_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/message_line.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

// Each test runs over a stream and over unary calls.
using GrpcAttachmentTest = testing::GrpcFixture;

TEST_P(GrpcAttachmentTest, SeveralTransportsAreMadeFromOneAttachment) {
  server_.on_attach = [](v1::AttachResponse* r) { r->set_shm_socket("/run/shm.sock"); };
  const auto attachment = GrpcAttachment::Create(server_.address(), "", {}).value();
  EXPECT_EQ(attachment->table_set().manifest.id, manifest_.id);
  EXPECT_EQ(attachment->address(), server_.address());
  EXPECT_EQ(attachment->offer().shm_socket, "/run/shm.sock");
  EXPECT_EQ(attachment->offer().max_batch_rows, 100000u);
  const GrpcOptions options = {.unary = unary(), .connections = 2};
  auto first = GrpcTransport::Create(attachment, options).value();
  const auto second = GrpcTransport::Create(attachment, options).value();
  for (Transport* transport : {first.get(), second.get()}) {
    EXPECT_EQ(transport->capabilities().max_batch_rows, 100000u);
    MakeBatch(8);
    EXPECT_TRUE(transport->Wait(transport->Submit({.layers = layers_}).value()).ok());
    ExpectLanded();
  }
  // The channel that they share outlives the one that goes.
  first.reset();
  MakeBatch(16);
  EXPECT_TRUE(second->Wait(second->Submit({.layers = layers_}).value()).ok());
  ExpectLanded();
  EXPECT_EQ(server_.attaches(), 1);
}

TEST_P(GrpcAttachmentTest, TheOwnerSaysWhatItOffers) {
  const auto offered = [&] {
    return GrpcAttachment::Create(server_.address(), "", {}).value()->offer();
  };
  // An owner that is older than features.
  EXPECT_TRUE(offered().features.empty());
  EXPECT_EQ(offered().version, "");
  EXPECT_EQ(server_.last_attach().version(), kEngramVersion);
  EXPECT_TRUE(wire::HasFeature(server_.last_attach().features(), wire::kColumnChecks));
  server_.on_attach = [](v1::AttachResponse* r) {
    r->add_features("of another year");
    r->add_features("token_slices");
    r->set_version("9.9");
  };
  EXPECT_TRUE(wire::HasFeature(offered().features, wire::kTokenSlices));
  EXPECT_FALSE(wire::HasFeature(offered().features, wire::kColumnChecks));
  EXPECT_EQ(offered().version, "9.9");
  // One that says too much is not listened to for ever.
  server_.on_attach = [](v1::AttachResponse* r) {
    for (int i = 0; i < 10000; ++i) r->add_features(std::string(1000, 'x'));
    for (int i = 0; i < 10000; ++i) r->add_features(absl::StrCat("f", i));
    r->set_version(std::string(100000, '1'));
  };
  EXPECT_EQ(offered().features.size(), wire::kMostFeatures);
  EXPECT_EQ(offered().version.size(), wire::kMostFeatureBytes);
}

TEST_P(GrpcAttachmentTest, ImageTokenIdsAreTheSets) {
  const auto attach = [&] { return GrpcAttachment::Create(server_.address(), "", {}); };
  // An owner that is older than them, or knows none.
  EXPECT_TRUE((*attach())->table_set().image_token_ids.empty());
  server_.on_attach = [](v1::AttachResponse* r) {
    r->add_image_token_ids(97);
    r->add_image_token_ids(98);
  };
  EXPECT_EQ((*attach())->table_set().image_token_ids, (std::vector<int32_t>{97, 98}));
  server_.on_attach = [](v1::AttachResponse* r) {
    for (int i = 0; i < 100000; ++i) r->add_image_token_ids(i);
  };
  EXPECT_EQ(attach().status().code(), absl::StatusCode::kDataLoss);
}

// One queue and one thread for two owners: whoever waits lands the other's rows, and one goes while
// the other's are on their way.
TEST_P(GrpcAttachmentTest, TwoTransportsShareOneDriver) {
  testing::FakeLookupServer other_server(manifest_);
  const std::shared_ptr<QueueDriver> driver = QueueDriver::Create(absl::ZeroDuration()).value();
  const auto attach = [&](const std::string& address) {
    return GrpcTransport::Create(GrpcAttachment::Create(address, "", {}).value(),
                                 {.unary = unary()}, driver)
        .value();
  };
  auto one = attach(server_.address());
  const auto other = attach(other_server.address());
  std::vector<std::byte> row(264);
  const std::vector<RowId> id = {5};
  const LayerRequest layer = {.layer = 1, .row_ids = id, .landing = {row.data()}};
  // Both are answered while one thread waits for one of them.
  MakeBatch(8);
  const Ticket first = one->Submit({.layers = layers_}).value();
  const Ticket second = other->Submit({.layers = {&layer, 1}}).value();
  EXPECT_TRUE(other->Wait(second).ok());
  EXPECT_TRUE(IsSyntheticRow(1, 5, row));
  EXPECT_TRUE(one->Wait(first).ok());
  ExpectLanded();
  // One goes with a batch under way, while another thread waits for the other's.
  server_.Close();
  other_server.Close();
  MakeBatch(8);
  ASSERT_TRUE(one->Submit({.layers = layers_}).ok());
  const Ticket third = other->Submit({.layers = {&layer, 1}}).value();
  while (server_.calls() < 2 || other_server.calls() < 2) absl::SleepFor(absl::Milliseconds(1));
  absl::Status waited;
  std::thread waits([&] { waited = other->Wait(third); });
  one.reset();
  other_server.Open();
  waits.join();
  EXPECT_TRUE(waited.ok()) << waited;
  ExpectUntouched();
}

// What the sink is told, in order: layers, then the end.
TEST_P(GrpcAttachmentTest, ASinkIsToldOfLayersAndTheEnd) {
  struct Sink final : CompletionSink {
    void OnLayerLanded(uint64_t tag, size_t index) override {
      const std::lock_guard<std::mutex> lock(mutex);
      told.push_back(absl::StrCat(tag, " layer ", index));
    }
    void OnTicketEnded(uint64_t tag, const absl::Status& status) override {
      const std::lock_guard<std::mutex> lock(mutex);
      told.push_back(absl::StrCat(tag, " ", absl::StatusCodeToString(status.code())));
    }
    void AwaitCalls(size_t count) {
      while (true) {
        {
          const std::lock_guard<std::mutex> lock(mutex);
          if (told.size() >= count) return;
        }
        absl::SleepFor(absl::Milliseconds(1));
      }
    }
    std::mutex mutex;
    std::vector<std::string> told;
  } sink;
  server_.chunk_rows = 3;
  const auto transport = Attach();
  MakeBatch(8);
  const Ticket landed =
      transport->Submit({.layers = layers_, .sink = &sink, .sink_tag = 7}).value();
  sink.AwaitCalls(3);  // nobody waits for the ticket
  ExpectLanded();
  server_.on_lookup = [](auto*) { return grpc::Status(grpc::StatusCode::DATA_LOSS, "block 7"); };
  const Ticket failed =
      transport->Submit({.layers = layers_, .sink = &sink, .sink_tag = 8}).value();
  EXPECT_EQ(transport->Wait(failed).code(), absl::StatusCode::kDataLoss);
  sink.AwaitCalls(4);
  // A deadline passes, and nobody waits for it either.
  server_.Close();
  const Ticket late = transport
                          ->Submit({.layers = layers_,
                                    .deadline = RealClock().After(absl::Milliseconds(20)),
                                    .sink = &sink,
                                    .sink_tag = 9})
                          .value();
  sink.AwaitCalls(5);
  for (const Ticket ticket : {landed, failed, late}) transport->Reap(ticket);
  EXPECT_THAT(sink.told, ::testing::ElementsAre("7 layer 0", "7 layer 1", "7 OK", "8 DATA_LOSS",
                                                "9 DEADLINE_EXCEEDED"));
}

TEST_P(GrpcAttachmentTest, WordsOfTheOtherEndAreABoundedLine) {
  const auto transport = Attach();
  server_.on_lookup = [](auto*) {
    return grpc::Status(grpc::StatusCode::DATA_LOSS,
                        absl::StrCat("\x1b[31mred\n", std::string(3000, 'x'), "mended"));
  };
  MakeBatch(8);
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  const std::string words(transport->Wait(ticket).message());
  EXPECT_THAT(words, HasSubstr("\\x1b[31mred\\nxxx"));
  EXPECT_THAT(words, ::testing::EndsWith("mended"));
  EXPECT_THAT(words, HasSubstr("bytes left out"));
  EXPECT_LT(words.size(), 2 * kMaxPeerWordsBytes);
  transport->Reap(ticket);
}

TEST_P(GrpcAttachmentTest, AttachChecksWhatTheOwnerSends) {
  server_.on_attach = [](v1::AttachResponse* r) { r->mutable_manifest()->append("# more\n"); };
  const auto other_text = GrpcTransport::Attach(server_.address(), "", {});
  EXPECT_EQ(other_text.status().code(), absl::StatusCode::kDataLoss);
  server_.on_attach = [](v1::AttachResponse* r) { r->set_manifest("nonsense {"); };
  const auto nonsense = GrpcTransport::Attach(server_.address(), "", {});
  EXPECT_EQ(nonsense.status().code(), absl::StatusCode::kDataLoss);
}

INSTANTIATE_TEST_SUITE_P(Modes, GrpcAttachmentTest, ::testing::Bool(),
                         [](const auto& mode) { return mode.param ? "unary" : "stream"; });

TEST(GrpcAttachment, ChecksTheTokenMap) {
  const Manifest manifest =
      testing::WriteSmallTableSet({.with_token_map = true},
                                  ::testing::TempDir() + "/grpc_attachment_test_map")
          .value();
  testing::FakeLookupServer server(manifest);
  server.on_attach = [](v1::AttachResponse* r) { r->set_token_map(std::string(400, '\1')); };
  const auto status = GrpcTransport::Attach(server.address(), "", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token map"));
}

// A token's file is looked at again when a second of the clock's has passed, and not before.
TEST(GrpcAttachment, ATokenThatIsReplacedIsReadAgain) {
  const std::string path = ::testing::TempDir() + "/grpc_attachment_test_token";
  const auto write = [&](const std::string& token) { std::ofstream(path) << token << "\n"; };
  testing::FakeLookupServer server(
      testing::WriteSmallTableSet({}, ::testing::TempDir() + "/grpc_attachment_test_plain")
          .value());
  write("one");
  FakeClock clock;
  const auto attachment =
      GrpcAttachment::Create(server.address(), "",
                             {.security = {.token_file = path}, .clock = &clock})
          .value();
  EXPECT_EQ(server.last_token(), "Bearer one");
  const auto transport = GrpcTransport::Create(attachment, {.unary = true}).value();
  std::vector<std::byte> row(264);
  const std::vector<RowId> id = {5};
  const LayerRequest layer = {.layer = 1, .row_ids = id, .landing = {row.data()}};
  const auto look_up = [&] {
    const Ticket ticket = transport->Submit({.layers = {&layer, 1}}).value();
    EXPECT_TRUE(transport->Wait(ticket).ok());
    transport->Reap(ticket);
  };
  write("two");
  look_up();
  EXPECT_EQ(server.last_token(), "Bearer one");
  clock.Advance(absl::Seconds(1));
  look_up();
  EXPECT_EQ(server.last_token(), "Bearer two");
  // While it is being replaced the last one stays.
  std::filesystem::remove(path);
  clock.Advance(absl::Seconds(1));
  look_up();
  EXPECT_EQ(server.last_token(), "Bearer two");
}

// By its clock, whatever gRPC sleeps by.
TEST(GrpcAttachment, AnAttachThatIsNotAnsweredEndsInItsTime) {
  std::atomic<bool> asked{false}, over{false};  // the server's call looks at them until it ends
  testing::FakeLookupServer server(
      testing::WriteSmallTableSet({}, ::testing::TempDir() + "/grpc_attachment_test_late").value());
  server.on_attach = [&](v1::AttachResponse*) {
    asked.store(true);
    while (!over.load()) absl::SleepFor(absl::Milliseconds(1));
  };
  FakeClock clock;
  absl::Status status;
  std::thread attaches([&] {
    status =
        GrpcAttachment::Create(server.address(), "", {.timeout = absl::Hours(1), .clock = &clock})
            .status();
  });
  while (!asked.load()) absl::SleepFor(absl::Milliseconds(1));
  clock.Advance(absl::Minutes(59));
  clock.Advance(absl::Minutes(2));
  attaches.join();
  over.store(true);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("within 1h (Deadline Exceeded)"));
}

TEST(GrpcAttachment, SaysWhereNobodyAnswered) {
  const std::string address =
      "unix:/tmp/engram-nobody-listens.sock";  // a test's folder is too long
  const auto status =
      GrpcTransport::Attach(address, "", {.timeout = absl::ZeroDuration()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address));
  for (const auto& [nobody, why] :
       {std::pair{"unix:/tmp/engram-nobody-listens.sock", "there is no such socket"},
        {"127.0.0.1:1", "the connection is refused"},
        {"no-such-host.invalid:7300", "does not resolve"}}) {
    const auto refused =
        GrpcTransport::Attach(nobody, "", {.timeout = absl::Milliseconds(500)}).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(refused.message()), HasSubstr(why));
  }
}

}  // namespace
}  // namespace engram
