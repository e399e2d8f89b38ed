// LookupStream of a real engramd, held by hand: batches in flight, overtaking, cancelled, late and
// wrong ones, and how a stream ends.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/hand_stream.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

// 132 MB of rows: more than gRPC sends to a client that does not read.
constexpr uint64_t kLargeRows = 500'000;
constexpr uint64_t kSmallRows = 48;

struct Served {
  ScratchDirectory scratch;
  std::unique_ptr<EngramdProcess> engramd;
  std::string address;
  v1::ServedTableSet set;

  Served() {
    PackSmallSet("deepseek-v4.1-flash", 500, scratch / "set");
    engramd = std::make_unique<EngramdProcess>(std::vector<std::string>{
        "--table-set", scratch / "set", "--listen", "unix:" + (scratch / "s")});
    address = engramd->WaitUntilServing();
    set = DescribeFirst(*ConnectStub(address));
  }
};

class StreamTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { served_ = new Served; }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }
  static v1::LookupRequest Batch(uint64_t batch_id, uint64_t rows) {
    return RowBatch(served_->set, batch_id, rows, static_cast<uint32_t>(batch_id));
  }
  // The batch is the next that ends, and is exact.
  static void ExpectNext(HandStream& stream, const v1::LookupRequest& batch) {
    ASSERT_EQ(stream.ReadToAnEnd(), batch.batch_id());
    ExpectExact(served_->set, batch, stream.Take(batch.batch_id()));
  }
  // The batch is the next that ends, with `code`.
  static std::string ExpectCode(HandStream& stream, uint64_t batch_id, grpc::StatusCode code) {
    EXPECT_EQ(stream.ReadToAnEnd(), batch_id);
    const Answer answer = stream.Take(batch_id);
    EXPECT_EQ(answer.code, static_cast<uint32_t>(code)) << answer.message;
    return answer.message;
  }
  static void ExpectEndsOk(HandStream& stream) {
    stream.WritesDone();
    const grpc::Status status = stream.Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  static Served* served_;
};

Served* StreamTest::served_ = nullptr;

TEST_F(StreamTest, ManyBatchesInFlightAreEachExact) {
  std::vector<v1::LookupRequest> batches;
  for (uint64_t i = 0; i < 300; ++i) batches.push_back(Batch(i, 1 + i * i * i % 9000));
  HandStream stream(served_->address);
  std::thread writer([&] {
    for (const v1::LookupRequest& batch : batches) ASSERT_TRUE(stream.Write(batch));
    stream.WritesDone();
  });
  size_t ended = 0;
  while (const std::optional<uint64_t> id = stream.ReadToAnEnd()) {
    ASSERT_LT(*id, batches.size());
    ExpectExact(served_->set, batches[*id], stream.Take(*id));
    ++ended;
  }
  writer.join();
  EXPECT_EQ(ended, batches.size());
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(StreamTest, ASmallBatchOvertakesALargeOne) {
  HandStream stream(served_->address);
  const v1::LookupRequest large = Batch(1, kLargeRows), small = Batch(2, kSmallRows);
  ASSERT_TRUE(stream.Write(large));
  ASSERT_TRUE(stream.Write(small));
  ExpectNext(stream, small);
  ExpectNext(stream, large);
  ExpectEndsOk(stream);
}

TEST_F(StreamTest, ACancelledBatchEndsAndTheStreamGoesOn) {
  HandStream stream(served_->address);
  ASSERT_TRUE(stream.Write(Batch(1, kLargeRows)));
  stream.Cancel(77);  // nobody's: nothing comes of it
  stream.Cancel(1);
  ASSERT_EQ(stream.ReadToAnEnd(), 1u);
  const Answer cancelled = stream.Take(1);
  EXPECT_EQ(cancelled.code, static_cast<uint32_t>(grpc::StatusCode::CANCELLED));
  EXPECT_LT(cancelled.rows_bytes, kLargeRows * 264);
  // Its id is free again.
  const v1::LookupRequest next = Batch(1, kSmallRows);
  ASSERT_TRUE(stream.Write(next));
  ExpectNext(stream, next);
  // What was answered already is not cancelled.
  stream.Cancel(1);
  const v1::LookupRequest last = Batch(2, kSmallRows);
  ASSERT_TRUE(stream.Write(last));
  ExpectNext(stream, last);
  ExpectEndsOk(stream);
}

TEST_F(StreamTest, ALateBatchEndsAlone) {
  HandStream stream(served_->address);
  v1::LookupRequest late = Batch(1, kLargeRows), patient = Batch(2, 20'000), free = Batch(3, 9000);
  late.set_timeout_us(20'000);
  patient.set_timeout_us(600'000'000);
  for (const auto* batch : {&late, &patient, &free}) ASSERT_TRUE(stream.Write(*batch));
  // What the server may send ahead of the reader is less than the late one holds.
  absl::SleepFor(absl::Milliseconds(100));
  std::map<uint64_t, Answer> answers;
  for (int i = 0; i < 3; ++i) {
    const std::optional<uint64_t> id = stream.ReadToAnEnd();
    ASSERT_TRUE(id);
    answers[*id] = stream.Take(*id);
  }
  EXPECT_EQ(answers[1].code, static_cast<uint32_t>(grpc::StatusCode::DEADLINE_EXCEEDED));
  ExpectExact(served_->set, patient, answers[2]);
  ExpectExact(served_->set, free, answers[3]);
  ExpectEndsOk(stream);
}

TEST_F(StreamTest, WhatCanNotBeDoneInTimeIsTurnedAwayWhenItComes) {
  HandStream stream(served_->address);
  const v1::LookupRequest large = Batch(1, kLargeRows);
  ASSERT_TRUE(stream.Write(large));
  // Behind 132 MB; alone each would be done in a hundredth of its time.
  constexpr uint64_t kLast = 20;
  for (uint64_t id = 2; id <= kLast; ++id) {
    v1::LookupRequest hurried = Batch(id, 5000);
    hurried.set_timeout_us(10'000);
    ASSERT_TRUE(stream.Write(hurried));
  }
  uint64_t turned_away = 0;
  for (uint64_t i = 1; i <= kLast; ++i) {
    const std::optional<uint64_t> id = stream.ReadToAnEnd();
    ASSERT_TRUE(id);
    const Answer answer = stream.Take(*id);
    if (answer.code == static_cast<uint32_t>(grpc::StatusCode::RESOURCE_EXHAUSTED)) {
      EXPECT_THAT(answer.message, HasSubstr("engramd is behind"));
      EXPECT_GT(answer.retry_after_ms, 0u);
      ++turned_away;
    } else if (*id == large.batch_id()) {
      ExpectExact(served_->set, large, answer);
    }
  }
  EXPECT_GT(turned_away, 0u);
  // And goes when there is room.
  const v1::LookupRequest later = Batch(kLast + 1, 5000);
  ASSERT_TRUE(stream.Write(later));
  ExpectNext(stream, later);
  ExpectEndsOk(stream);
}

TEST_F(StreamTest, AHurriedSmallBatchIsNotTurnedAwayForALargeOneThatItOvertakes) {
  HandStream stream(served_->address);
  const v1::LookupRequest large = Batch(1, kLargeRows);
  ASSERT_TRUE(stream.Write(large));
  v1::LookupRequest small = Batch(2, kSmallRows);
  // Far less than 132 MB take, far more than the message of them that goes first.
  small.set_timeout_us(40'000);
  ASSERT_TRUE(stream.Write(small));
  std::map<uint64_t, Answer> answers;
  for (int i = 0; i < 2; ++i) {
    const std::optional<uint64_t> id = stream.ReadToAnEnd();
    ASSERT_TRUE(id);
    answers[*id] = stream.Take(*id);
  }
  EXPECT_NE(answers[2].code, static_cast<uint32_t>(grpc::StatusCode::RESOURCE_EXHAUSTED))
      << answers[2].message;
  ExpectExact(served_->set, large, answers[1]);
  ExpectEndsOk(stream);
}

TEST_F(StreamTest, AWrongBatchGetsItsCodeAndTheStreamGoesOn) {
  HandStream stream(served_->address);
  uint64_t id = 0;
  const auto refused = [&](const std::function<void(v1::LookupRequest&)>& edit,
                           grpc::StatusCode code) {
    v1::LookupRequest batch;
    batch.set_table_set_id(served_->set.id());
    batch.set_batch_id(++id);
    edit(batch);
    EXPECT_TRUE(stream.Write(batch));
    const std::string message = ExpectCode(stream, id, code);
    const v1::LookupRequest good = Batch(++id, 100);
    EXPECT_TRUE(stream.Write(good));
    ExpectNext(stream, good);
    return message;
  };
  const auto add = [](v1::LookupRequest& batch, uint32_t layer, uint32_t row) {
    v1::LayerRowIds* rows = batch.add_layers();
    rows->set_layer(layer);
    rows->add_row_ids32(row);
  };
  const auto rows = static_cast<uint32_t>(served_->set.layers(0).rows());
  EXPECT_THAT(refused([&](auto& b) { add(b, 2, 0); }, grpc::StatusCode::INVALID_ARGUMENT),
              HasSubstr("has no layer 2"));
  EXPECT_THAT(refused([&](auto& b) { add(b, 1, rows); }, grpc::StatusCode::INVALID_ARGUMENT),
              HasSubstr("outside the table"));
  EXPECT_THAT(refused([](auto&) {}, grpc::StatusCode::INVALID_ARGUMENT),
              HasSubstr("the batch is empty"));
  EXPECT_THAT(refused(
                  [&](auto& b) {
                    b.set_table_set_id(std::string(64, '0'));
                    add(b, 1, 0);
                  },
                  grpc::StatusCode::FAILED_PRECONDITION),
              HasSubstr(served_->set.id()));
  EXPECT_THAT(refused([](auto& b) { b.mutable_tokens()->add_token_ids(-1); },
                      grpc::StatusCode::INVALID_ARGUMENT),
              HasSubstr("token id -1"));
  // 48 rows a token: 4,800,000.
  EXPECT_THAT(refused(
                  [](auto& b) {
                    for (int i = 0; i < 100'000; ++i) b.mutable_tokens()->add_token_ids(5);
                  },
                  grpc::StatusCode::INVALID_ARGUMENT),
              HasSubstr("split it"));
  ExpectEndsOk(stream);
}

TEST_F(StreamTest, AnIdThatIsUnderWayEndsTheStream) {
  HandStream stream(served_->address);
  const v1::LookupRequest first = Batch(5, kLargeRows);
  ASSERT_TRUE(stream.Write(first));
  ASSERT_TRUE(stream.Write(Batch(5, kSmallRows)));
  // What was asked before is answered.
  ExpectNext(stream, first);
  const grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("batch_id 5 is under way already"));
}

// A stream's messages as bytes.
TEST_F(StreamTest, BytesThatAreNoMessageEndTheStream) {
  grpc::GenericStub stub(grpc::CreateChannel(served_->address, grpc::InsecureChannelCredentials()));
  const v1::LookupRequest good = Batch(1, kSmallRows);
  const std::string cut = good.SerializeAsString().substr(0, 200);
  for (const std::string& garbage :
       {std::string("\xff\xff\xff\xff"), cut, std::string(300, '\xff')}) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareCall(&context, "/engram.v1.Lookup/LookupStream", &queue);
    const auto next = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    call->StartCall(nullptr);
    ASSERT_TRUE(next());
    for (const std::string& bytes : {good.SerializeAsString(), garbage}) {
      const grpc::Slice slice(bytes);
      call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
      ASSERT_TRUE(next());
    }
    // What was asked before is answered.
    grpc::ByteBuffer reply;
    call->Read(&reply, nullptr);
    ASSERT_TRUE(next());
    grpc::Slice whole;
    ASSERT_TRUE(reply.DumpToSingleSlice(&whole).ok());
    v1::LookupResponse response;
    ASSERT_TRUE(response.ParseFromArray(whole.begin(), static_cast<int>(whole.size())));
    EXPECT_TRUE(response.last());
    call->Read(&reply, nullptr);
    EXPECT_FALSE(next());
    grpc::Status status;
    call->Finish(&status, nullptr);
    next();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("LookupRequest"));
  }
}

// Half a stream's batches are still unsent when the client says that it has no more.
TEST_F(StreamTest, ClosingTheWritingEndLosesNoAnswer) {
  HandStream stream(served_->address);
  std::vector<v1::LookupRequest> batches;
  for (uint64_t i = 0; i < 20; ++i) batches.push_back(Batch(i, 30'000));
  for (const v1::LookupRequest& batch : batches) ASSERT_TRUE(stream.Write(batch));
  stream.WritesDone();
  for (size_t i = 0; i < batches.size(); ++i) {
    const std::optional<uint64_t> id = stream.ReadToAnEnd();
    ASSERT_TRUE(id);
    ExpectExact(served_->set, batches[*id], stream.Take(*id));
  }
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(StreamDrain, AnswersWhatItHasReadAndEndsTheStream) {
  Served served;
  HandStream stream(served.address), idle(served.address);
  std::vector<v1::LookupRequest> batches;
  for (uint64_t id = 1; id <= 5; ++id) {
    batches.push_back(RowBatch(served.set, id, 60'000, static_cast<uint32_t>(id)));
    ASSERT_TRUE(stream.Write(batches.back()));
  }
  // The answer to the last says that those before it have been read.
  const v1::LookupRequest small = RowBatch(served.set, 6, kSmallRows);
  for (HandStream* one : {&stream, &idle}) {
    ASSERT_TRUE(one->Write(small));
    ASSERT_EQ(one->ReadToAnEnd(), 6u);
    ExpectExact(served.set, small, one->Take(6));
  }
  served.engramd->Signal(SIGTERM);
  ASSERT_TRUE(served.engramd->WaitForLine("draining"));
  // A stream with nothing under way ends at once.
  EXPECT_EQ(idle.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  for (const v1::LookupRequest& batch : batches) {
    ASSERT_EQ(stream.ReadToAnEnd(), batch.batch_id());
    ExpectExact(served.set, batch, stream.Take(batch.batch_id()));
  }
  const grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("stopping"));
  EXPECT_EQ(served.engramd->WaitForEnd(), 0);
}

}  // namespace
}  // namespace engram::integration
