// Clients that ask for more than they read: they hold nothing that another client needs, and
// engramd keeps little for them.
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/hand_stream.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

// Above the table and an idle server: slabs (72 MiB), ids of batches under way (64 MiB and what is
// each call's own), and what gRPC holds of messages that are on their way in or out.
constexpr uint64_t kMostMoreBytes = uint64_t{256} << 20;

uint64_t ResidentBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  std::string word;
  while (status >> word && word != "VmRSS:") {
  }
  uint64_t kib = 0;
  status >> kib;
  EXPECT_GT(kib, 0u);
  return kib << 10;
}

// Writes requests to a stream of its own and reads nothing, until it goes. What engramd does not
// read holds the writing thread up, and nobody else.
class StalledStream {
 public:
  StalledStream(const std::string& address, std::vector<v1::LookupRequest> requests)
      : stream_(address), thread_([this, requests = std::move(requests)] {
          for (const v1::LookupRequest& request : requests) {
            if (!stream_.Write(request)) return;
          }
        }) {}
  ~StalledStream() {
    stream_.Abort();
    thread_.join();
  }
  StalledStream(const StalledStream&) = delete;
  StalledStream& operator=(const StalledStream&) = delete;

 private:
  HandStream stream_;
  std::thread thread_;
};

class StalledClientsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "set");
    engramd_ = std::make_unique<EngramdProcess>(std::vector<std::string>{
        "--table-set", scratch_ / "set", "--listen", "unix:" + (scratch_ / "s")});
    address_ = engramd_->WaitUntilServing();
    set_ = DescribeFirst(*ConnectStub(address_));
    for (const std::string mode : {"stream", "unary"}) {
      auto client = Client::Attach("grpc:" + address_, {.table_set = {}, .mode = mode});
      ASSERT_TRUE(client.ok()) << client.status();
      others_.push_back(*std::move(client));
    }
    ExpectOthersAreServed();
    resident_before_ = ResidentBytes(engramd_->pid());
  }
  // Small and large lookups of others, each exact.
  void ExpectOthersAreServed() {
    for (const std::unique_ptr<Client>& client : others_) {
      for (const size_t tokens : {1, 300, 2000}) {
        const std::vector<int32_t> ids = RealTokenIds(tokens);
        const auto rows = LookUp(*client, ids, RealClock().Now() + absl::Seconds(60));
        ASSERT_TRUE(rows.ok()) << tokens << " tokens: " << rows.status();
        EXPECT_TRUE(*rows == ExpectedRows(client->table_set(), client->addresser(), ids));
      }
    }
  }
  void ExpectBounded() {
    const uint64_t resident = ResidentBytes(engramd_->pid());
#if !defined(ABSL_HAVE_ADDRESS_SANITIZER)  // which keeps freed memory, and shadows all of it
    EXPECT_LT(resident, resident_before_ + kMostMoreBytes);
#endif
    RecordProperty("grown_mib", static_cast<int>((resident - resident_before_) >> 20));
  }

  ScratchDirectory scratch_;
  std::unique_ptr<EngramdProcess> engramd_;
  std::string address_;
  v1::ServedTableSet set_;
  std::vector<std::unique_ptr<Client>> others_;
  uint64_t resident_before_ = 0;
};

// Each asks for more than a gigabyte and reads nothing. The smaller ones leave no room between what
// the large ones hold of the memory for ids and its limit.
TEST_F(StalledClientsTest, StreamsOfLargeBatchesThatNobodyReads) {
  std::vector<v1::LookupRequest> requests;
  for (const uint64_t rows : {1'000'000, 1'000'000, 1'000'000, 1'000'000, 500'000, 200'000, 100'000,
                              50'000, 20'000, 10'000, 5'000, 2'000, 1'000}) {
    requests.push_back(RowBatch(set_, requests.size() + 1, rows));
  }
  std::vector<std::unique_ptr<StalledStream>> stalled;
  for (int i = 0; i < 12; ++i) {
    stalled.push_back(std::make_unique<StalledStream>(address_, requests));
    ExpectOthersAreServed();
  }
  ExpectBounded();
}

// Few bytes of token ids address many rows: a hundred times their own size.
TEST_F(StalledClientsTest, StreamsOfTokensThatNobodyReads) {
  v1::LookupRequest request;
  request.set_table_set_id(set_.id());
  for (int i = 0; i < 80'000; ++i) request.mutable_tokens()->add_token_ids(i);
  std::vector<v1::LookupRequest> requests(3, request);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].set_batch_id(i + 1);
  std::vector<std::unique_ptr<StalledStream>> stalled;
  for (int i = 0; i < 8; ++i) {
    stalled.push_back(std::make_unique<StalledStream>(address_, requests));
    ExpectOthersAreServed();
  }
  ExpectBounded();
}

// A unary call whose reply is not read: its first bytes are taken, and no more.
TEST_F(StalledClientsTest, UnaryCallsThatNobodyReads) {
  struct Call {
    std::unique_ptr<v1::Lookup::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::LookupResponse>> reader;
  };
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Call>> calls;
  const v1::LookupRequest request = RowBatch(set_, 1, 15'000);
  for (int i = 0; i < 64; ++i) {
    auto call = std::make_unique<Call>();
    call->stub = ConnectStub(address_);
    call->reader = call->stub->AsyncLookup(&call->context, request, &queue);
    call->reader->ReadInitialMetadata(nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    calls.push_back(std::move(call));
    if (i % 8 == 7) ExpectOthersAreServed();
  }
  ExpectBounded();
  for (const std::unique_ptr<Call>& call : calls) {
    v1::LookupResponse response;
    grpc::Status status;
    call->reader->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    // It was answered whole, or ended for the sake of others.
    if (status.ok()) {
      EXPECT_EQ(response.layers(0).rows().size(), 7'500u * 264);
    }
  }
}

// As many streams as engramd takes, and nothing on them: who asks for rows gets a stream.
TEST_F(StalledClientsTest, StreamsThatAskForNothing) {
  struct Idle {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::LookupRequest, v1::LookupResponse>> stream;
  };
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<v1::Lookup::Stub>> stubs;
  std::vector<std::unique_ptr<Idle>> idle;
  for (int i = 0; i < 1100; ++i) {
    if (i % 110 == 0) stubs.push_back(ConnectStub(address_));
    idle.push_back(std::make_unique<Idle>());
    Idle& one = *idle.back();
    one.stream = stubs.back()->PrepareAsyncLookupStream(&one.context, &queue);
    one.stream->StartCall(nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    ASSERT_TRUE(ok);
  }
  for (int i = 0; i < 3; ++i) {
    auto client = Client::Attach("grpc:" + address_, {});
    ASSERT_TRUE(client.ok()) << client.status();
    others_.push_back(*std::move(client));
  }
  ExpectOthersAreServed();
  ExpectBounded();
  for (const std::unique_ptr<Idle>& one : idle) one->context.TryCancel();
  queue.Shutdown();
}

// Many answers of the small methods, which hold a token map each, and none is taken.
TEST_F(StalledClientsTest, AttachesThatNobodyTakes) {
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::AttachResponse>> reader;
  };
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<v1::Lookup::Stub>> stubs;
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < 1000; ++i) {
    if (i % 100 == 0) stubs.push_back(ConnectStub(address_));
    calls.push_back(std::make_unique<Call>());
    Call& call = *calls.back();
    call.reader = stubs.back()->AsyncAttach(&call.context, v1::AttachRequest(), &queue);
    call.reader->ReadInitialMetadata(nullptr);
  }
  ExpectOthersAreServed();
  ExpectBounded();
  // Others can still attach.
  const auto client = Client::Attach("grpc:" + address_, {});
  EXPECT_TRUE(client.ok()) << client.status();
  for (const std::unique_ptr<Call>& call : calls) call->context.TryCancel();
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

// Nothing but wrong batches, whose errors are not read either.
TEST_F(StalledClientsTest, StreamsOfWrongBatchesThatNobodyReads) {
  v1::LookupRequest wrong;
  wrong.set_table_set_id(std::string(1000, 'x'));
  std::vector<std::unique_ptr<HandStream>> stalled;
  for (int i = 0; i < 4; ++i) {
    stalled.push_back(std::make_unique<HandStream>(address_));
    // Before its writes would wait for the server.
    for (uint64_t id = 1; id <= 50; ++id) {
      wrong.set_batch_id(id);
      ASSERT_TRUE(stalled.back()->Write(wrong));
    }
    ExpectOthersAreServed();
  }
  ExpectBounded();
}

}  // namespace
}  // namespace engram::integration
