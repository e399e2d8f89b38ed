// What a client by hand may send over RDMA that the SDK never would: each a clear status, nobody
// else disturbed.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/rdma/rdma_connection.h"
#include "gtest/gtest.h"
#include "memstore/addressing/addresser.h"
#include "memstore/base/clock.h"
#include "tests/rdma/fault_fixture.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

// Leaves the lease the time that it takes at most.
constexpr MonotonicTime kNever = MonotonicTime::Infinite();

// A client by hand, which may send what the SDK never would.
class HandClient {
 public:
  HandClient(const RdmaOwner& owner, bool reads = false) {
    auto grpc = GrpcAttachment::Create(owner.address(), "", {.timeout = absl::Seconds(20)});
    EXPECT_TRUE(grpc.ok()) << grpc.status();
    route_.grpc = *std::move(grpc);
    route_.set_id = route_.grpc->table_set().manifest.id;
    route_.reads = reads;
    auto lease = Lease();
    EXPECT_TRUE(lease.ok()) << lease.status();
    auto chosen = ChooseRdmaDevice((*lease)->offer(), "");
    EXPECT_TRUE(chosen.ok()) << chosen.status();
    route_.domain = RdmaDomain::Create(chosen->first).value();
    auto connection = RdmaConnection::Connect(route_, *std::move(lease), kNever);
    EXPECT_TRUE(connection.ok()) << connection.status();
    connection_ = *std::move(connection);
    memory_ =
        RdmaBuffer::Create(route_.domain, kBytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)
            .value();
  }
  ~HandClient() { connection_.reset(); }

  absl::StatusOr<std::unique_ptr<RdmaLease>> Lease() const {
    return RdmaLease::Open(route_, RealClock().Now() + absl::Seconds(20));
  }
  RdmaLease& lease() { return connection_->lease(); }
  const RdmaBuffer& memory() const { return memory_; }
  const RdmaRoute& route() const { return route_; }
  RdmaConnection& connection() { return *connection_; }

  // A request for 4 rows of layer 1, changed by `change`, and what came of it: the refusal, OK for
  // rows that landed, or the way in which the connection ended.
  absl::Status Ask(absl::FunctionRef<void(RdmaRequestHeader&, RdmaRequestLayer&)> change,
                   uint32_t bytes = RdmaHeadBytes(1) + 16) {
    std::byte* const out = connection_->request(0);
    RdmaRequestHeader header{.magic = kRdmaRequestMagic,
                             .version = kRdmaVersion,
                             .layers = 1,
                             .tag = RdmaImmediate({0, 1}, kRdmaAllLayers),
                             .id_bytes = 4,
                             .batch = 1,
                             .timeout_us = 0};
    RdmaRequestLayer layer{.layer = 1,
                           .window = kWindow,
                           .offset = 0,
                           .group_stride_bytes = 0,
                           .group_rows = 0,
                           .rows = 4};
    change(header, layer);
    const uint32_t ids[] = {1, 2, 3, id_};
    std::memcpy(out, &header, sizeof(header));
    std::memcpy(out + sizeof(header), &layer, sizeof(layer));
    std::memcpy(out + RdmaHeadBytes(1), ids, sizeof(ids));
    EXPECT_TRUE(connection_->SendRequest(0, bytes).ok());
    return Answer();
  }
  // By token ids: a token of layer 1, with these runs as they lie (a count, then first column and
  // columns of each), and what is said of them.
  absl::Status AskSlice(const std::vector<uint32_t>& runs, uint32_t rows,
                        uint32_t parts = kRdmaSlices, int64_t more_bytes = 0) {
    std::byte* at = connection_->request(0);
    const auto put = [&](const void* from, size_t bytes) {
      std::memcpy(at, from, bytes);
      at += bytes;
    };
    const RdmaRequestHeader header{.magic = kRdmaRequestMagic,
                                   .version = kRdmaVersion,
                                   .layers = 1,
                                   .tag = RdmaImmediate({0, 1}, kRdmaAllLayers),
                                   .id_bytes = kRdmaTokenIds,
                                   .batch = 1,
                                   .timeout_us = 0};
    const RdmaRequestLayer layer{.layer = 1,
                                 .window = kWindow,
                                 .offset = 0,
                                 .group_stride_bytes = 0,
                                 .group_rows = 0,
                                 .rows = rows};
    const RdmaTokens tokens{.tokens = 1, .sequences = 1, .lookback = 1, .parts = parts};
    const int32_t rest[] = {1, kBefore, kToken, 0};
    put(&header, sizeof(header));
    put(&layer, sizeof(layer));
    put(&tokens, sizeof(tokens));
    put(runs.data(), runs.size() * sizeof(uint32_t));
    put(rest, 3 * sizeof(int32_t));
    const auto bytes = static_cast<uint64_t>(at - connection_->request(0));
    EXPECT_TRUE(
        connection_->SendRequest(0, static_cast<uint32_t>((bytes + 7) / 8 * 8 + more_bytes)).ok());
    return Answer();
  }
  absl::Status Answer() {
    const MonotonicTime end = RealClock().Now() + absl::Seconds(20);
    while (RealClock().Now() < end) {
      ibv_wc completion;
      if (connection_->completions().Poll({&completion, 1}) != 1) {
        if (lease().ended()) return lease().End();
        continue;
      }
      if (completion.status != IBV_WC_SUCCESS) return WhyEnded();
      if ((completion.wr_id & RdmaConnection::kSent) != 0) continue;
      absl::Status status;
      if (completion.opcode != IBV_WC_RECV_RDMA_WITH_IMM) {
        const auto refused =
            ReadRdmaRefusal(connection_->Received(completion.wr_id, completion.byte_len));
        status = refused.ok() ? refused->status : refused.status();
      }
      EXPECT_TRUE(connection_->PostReceive(completion.wr_id).ok());
      return status;
    }
    return absl::DeadlineExceededError("no answer");
  }
  // What the owner says on the lease.
  absl::Status WhyEnded() {
    for (int i = 0; i < 1000 && !lease().ended(); ++i) absl::SleepFor(absl::Milliseconds(10));
    return lease().End();
  }
  void set_last_id(uint32_t id) { id_ = id; }

  static constexpr int32_t kBefore = 5, kToken = 6;
  static constexpr uint32_t kWindow = 7;
  static constexpr uint64_t kBytes = 8192;

 private:
  RdmaRoute route_;
  std::shared_ptr<RdmaConnection> connection_;
  RdmaBuffer memory_;
  uint32_t id_ = 4;
};

constexpr auto kAsItIs = [](RdmaRequestHeader&, RdmaRequestLayer&) {};

TEST_F(RdmaFaultTest, PlacesOutsideTheWindowsAreRefusedAndTheConnectionGoesOn) {
  HandClient client(*owner_);
  // No window yet.
  EXPECT_EQ(client.Ask(kAsItIs).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(client.lease().Declare(HandClient::kWindow, client.memory().region(), kNever).ok());
  EXPECT_TRUE(client.Ask(kAsItIs).ok());
  std::vector<std::byte> row(264);
  SyntheticRow(1, 4, absl::MakeSpan(row));
  EXPECT_EQ(std::memcmp(client.memory().data() + 3 * 264, row.data(), row.size()), 0);
  const auto refused = [&](auto change) {
    const absl::Status status = client.Ask(change);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const auto says = [](const std::string& message, const char* what) {
    return message.find(what) != message.npos;
  };
  EXPECT_TRUE(says(refused([](auto&, auto& layer) { layer.window = 8; }), "no window 8"));
  // The last byte fits, one more does not.
  EXPECT_TRUE(client.Ask([](auto&, auto& layer) { layer.offset = 8192 - 4 * 264; }).ok());
  EXPECT_TRUE(says(refused([](auto&, auto& layer) { layer.offset = 8192 - 4 * 264 + 1; }),
                   "do not fit window"));
  refused([](auto&, auto& layer) { layer.offset = ~uint64_t{0} - 100; });
  refused([](auto&, auto& layer) { layer.group_rows = 1, layer.group_stride_bytes = 8000; });
  refused([](auto&, auto& layer) {
    layer.group_rows = 1, layer.group_stride_bytes = ~uint64_t{0} / 3;
  });
  refused([](auto&, auto& layer) { layer.group_rows = 2, layer.group_stride_bytes = 100; });
  refused([](auto&, auto& layer) { layer.layer = 2; });
  refused([](auto&, auto& layer) { layer.rows = 5; });
  refused([](auto&, auto& layer) { layer.rows = 0; });
  refused([](auto& header, auto&) { header.id_bytes = 8; });
  refused([](auto& header, auto&) { header.id_bytes = kRdmaTokenIds; });
  refused([](auto& header, auto&) { header.layers = 3; });
  client.set_last_id(kRows);
  EXPECT_TRUE(says(refused(kAsItIs), "20000"));
  client.set_last_id(4);
  ASSERT_TRUE(client.lease().Forget(HandClient::kWindow).ok());
  refused(kAsItIs);
  ASSERT_TRUE(client.lease().Declare(HandClient::kWindow, client.memory().region(), kNever).ok());
  EXPECT_TRUE(client.Ask(kAsItIs).ok());
}

TEST_F(RdmaFaultTest, SlicesThatAreNoneAreRefusedAndTheConnectionGoesOn) {
  HandClient client(*owner_);
  ASSERT_TRUE(client.lease().Declare(HandClient::kWindow, client.memory().region(), kNever).ok());
  const AddressScheme& scheme = client.route().grpc->table_set().manifest.scheme;
  ASSERT_EQ(scheme.Columns(), kColumns);
  // Two columns of four, apart.
  const auto right = [&] { return client.AskSlice({2, 0, 1, 3, 1}, 2); };
  absl::Status status = right();
  ASSERT_TRUE(status.ok()) << status;
  SequenceState state = Addresser::Start();
  state.ids[0] = HandClient::kBefore;
  RowId ids[kColumns];
  const int32_t token = HandClient::kToken;
  const LayerRowIdsOutput output{.layer_index = 0, .rows = ids, .token_stride = kColumns};
  ASSERT_TRUE(Addresser::Create(scheme, nullptr)
                  .value()
                  ->Address(state, {&token, 1}, {}, {&output, 1})
                  .ok());
  for (const size_t i : {0u, 1u}) {
    EXPECT_TRUE(IsSyntheticRow(1, ids[i == 0 ? 0 : 3], {client.memory().data() + i * 264, 264}));
  }
  std::memset(client.memory().data(), 0x5a, HandClient::kBytes);
  const auto refused = [&](const std::vector<uint32_t>& runs, uint32_t rows,
                           uint32_t parts = kRdmaSlices, int64_t more_bytes = 0) {
    const absl::Status wrong = client.AskSlice(runs, rows, parts, more_bytes);
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument) << wrong;
    return std::string(wrong.message());
  };
  EXPECT_NE(refused({1, 3, 2}, 2).find("beyond the layer's 4 columns"), std::string::npos);
  EXPECT_NE(refused({2, 0, 2, 1, 2}, 4).find("overlaps"), std::string::npos);
  refused({2, 2, 1, 0, 1}, 2);                   // not in order
  refused({1, ~0u, 2}, 2);                       // ends at column 0, counted in 32 bits
  refused({1, 0, ~0u}, 2);                       // more than any buffer
  refused({1, 0, 0}, 1);                         // none
  refused({0}, 1);                               // no run
  refused({9, 0, 1, 1, 1}, 2);                   // more than a slice has
  refused({~0u, 0, 1}, 1);                       // by far
  refused({8, 0, 1}, 1);                         // beyond the request's end
  refused({2, 0, 1, 3, 1}, 4);                   // rows of all columns
  refused({2, 0, 1, 3, 1}, ~0u);                 // of none that there could be
  refused({2, 0, 1, 3, 1}, 2, 4);                // a part that nobody knows
  refused({2, 0, 1, 3, 1}, 2, kRdmaDead);        // no slices, by what it says
  refused({2, 0, 1, 3, 1}, 2, kRdmaSlices, 8);   // longer
  refused({2, 0, 1, 3, 1}, 2, kRdmaSlices, -8);  // shorter
  for (size_t i = 0; i < HandClient::kBytes; ++i) {
    ASSERT_EQ(client.memory().data()[i], std::byte{0x5a}) << i;
  }
  status = right();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(RdmaFaultTest, ABatchWhoseDeadlineHasPassedIsNotGathered) {
  HandClient client(*owner_);
  ASSERT_TRUE(client.lease().Declare(HandClient::kWindow, client.memory().region(), kNever).ok());
  // A microsecond after it was received; a quick owner may be in time now and then.
  absl::Status status;
  for (int i = 0; i < 50 && status.ok(); ++i) {
    status = client.Ask([](auto& header, auto&) { header.timeout_us = 1; });
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_TRUE(client.Ask([](auto& header, auto&) { header.timeout_us = 60'000'000; }).ok());
}

TEST_F(RdmaFaultTest, KeysThatOpenNothingEndTheConnectionWithTheReason) {
  HandClient victim(*owner_);
  ASSERT_TRUE(victim.lease().Declare(HandClient::kWindow, victim.memory().region(), kNever).ok());
  std::memset(victim.memory().data(), 0x5a, HandClient::kBytes);
  {
    // Another client's window: its address and key, declared as one's own.
    HandClient thief(*owner_);
    ASSERT_TRUE(thief.lease().Declare(HandClient::kWindow, victim.memory().region(), kNever).ok());
    const absl::Status status = thief.Ask(kAsItIs);
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    for (size_t i = 0; i < HandClient::kBytes; ++i) {
      ASSERT_EQ(victim.memory().data()[i], std::byte{0x5a}) << i;
    }
  }
  EXPECT_TRUE(victim.Ask(kAsItIs).ok());
  // Both may declare a window of the same number: each has its own.
  HandClient other(*owner_);
  ASSERT_TRUE(other.lease().Declare(HandClient::kWindow, other.memory().region(), kNever).ok());
  EXPECT_TRUE(other.Ask(kAsItIs).ok());
}

TEST_F(RdmaFaultTest, WhatIsNoRequestEndsTheConnectionWithTheReason) {
  {
    HandClient client(*owner_);
    const absl::Status status = client.Ask([](auto& header, auto&) { header.magic = 1; });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  {
    HandClient client(*owner_);
    EXPECT_EQ(client.Ask(kAsItIs, 3).code(), absl::StatusCode::kInvalidArgument);
  }
  HandClient client(*owner_);  // longer than agreed
  const absl::Status status = client.Ask(kAsItIs, 2 * kRdmaRequestBytes);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("longer"), status.message().npos) << status;
}

TEST_F(RdmaFaultTest, SetUpIsCheckedStepByStep) {
  HandClient hand(*owner_);
  RdmaRoute unknown = hand.route();
  unknown.set_id = "nope";
  EXPECT_EQ(RdmaLease::Open(unknown, RealClock().Now() + absl::Seconds(20)).status().code(),
            absl::StatusCode::kFailedPrecondition);
  auto again = hand.Lease();
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->Connect(5, {.queue_pair = 1, .mtu = 5}, kNever).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto third = hand.Lease();
  ASSERT_TRUE(third.ok());
  EXPECT_EQ((*third)->Connect(0, {.queue_pair = 1, .mtu = 77}, kNever).status().code(),
            absl::StatusCode::kInvalidArgument);
  // Windows before the connection, twice the same, forgotten and not there.
  auto fourth = hand.Lease();
  ASSERT_TRUE(fourth.ok());
  EXPECT_EQ((*fourth)->Declare(1, hand.memory().region(), kNever).code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(hand.lease().Declare(1, hand.memory().region(), kNever).ok());
  EXPECT_EQ(hand.lease().Declare(1, hand.memory().region(), kNever).code(),
            absl::StatusCode::kInvalidArgument);
  HandClient other(*owner_);
  EXPECT_EQ(other.lease().Forget(3).code(), absl::StatusCode::kInvalidArgument);
  // One that opens and says no more is let go of.
  auto silent = hand.Lease();
  ASSERT_TRUE(silent.ok());
  for (int i = 0; i < 1500 && !(*silent)->ended(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ((*silent)->End().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RdmaFaultTest, TooManyClientsAndWindowsAreTurnedAway) {
  HandClient hand(*owner_);
  for (uint32_t i = 1; i <= kRdmaWindows; ++i) {
    ASSERT_TRUE(hand.lease().Declare(i, hand.memory().region(), kNever).ok()) << i;
  }
  EXPECT_EQ(hand.lease().Declare(kRdmaWindows + 1, hand.memory().region(), kNever).code(),
            absl::StatusCode::kResourceExhausted);
  std::vector<std::unique_ptr<Transport>> clients;
  absl::Status status;
  for (uint32_t i = 0; i <= kRdmaMaxClients && status.ok(); ++i) {
    auto client = RdmaTransport::Attach(owner_->address(), "", {});
    status = client.status();
    if (client.ok()) clients.push_back(*std::move(client));
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_GE(clients.size(), kRdmaMaxClients - 3);
}

}  // namespace
}  // namespace engram::rdma
