// What breaks, ends and falls silent over RDMA: each a clear status, nothing leaked, nobody else
// disturbed.
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "client/client.h"
#include "client/transport/auto/auto_transport.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/rdma/rdma_transport.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/rdma/busy_clients.h"
#include "tests/rdma/fault_fixture.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

using integration::EngramdProcess;

TEST_F(RdmaFaultTest, WhatAQueuePairThatBreaksDidNotBringIsAskedForOverAnother) {
  for (const bool reads : {false, true}) {
    auto transport = owner_->Attach(reads);
    auto& rdma = static_cast<RdmaTransport&>(*transport);
    std::vector<std::unique_ptr<Batch>> batches;
    std::vector<Ticket> tickets;
    for (size_t i = 0; i < 12; ++i) {
      const size_t rows = i % 4 == 0 ? (reads ? 2000 : 60'000) : 64;
      batches.push_back(
          std::make_unique<Batch>(rows, i % 2 == 0 ? Layout::kLayers : Layout::kTokens, i));
      ASSERT_TRUE(batches.back()->Register(rdma).ok());
    }
    for (const auto& batch : batches) {
      const auto ticket = rdma.Submit({.layers = batch->layers()});
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      tickets.push_back(*ticket);
    }
    // A layer that has landed is its reader's: it is not written once more.
    if (!reads) {
      ASSERT_TRUE(rdma.WaitLayer(tickets[0], 0).ok());
      std::memset(batches[0]->layers()[0].landing.data, 0x77, 264);
    }
    rdma.BreakForTest();
    for (size_t i = 0; i < batches.size(); ++i) {
      const absl::Status status = rdma.Wait(tickets[i]);
      EXPECT_TRUE(status.ok()) << reads << " " << i << ": " << status;
      if (!reads && i == 0) {
        std::vector<std::byte> written(264, std::byte{0x77});
        EXPECT_EQ(std::memcmp(batches[0]->layers()[0].landing.data, written.data(), 264), 0);
      } else {
        EXPECT_TRUE(batches[i]->IsExact()) << reads << " " << i;
      }
      rdma.Reap(tickets[i]);
    }
  }
}

TEST_F(RdmaFaultTest, AReapThatHasToCutTheConnectionCostsTheOtherBatchesNothing) {
  const SetDirectory set;
  EngramdProcess engramd({"--table-set", set.path(), "--listen", "127.0.0.1:0", "--rdma-device",
                          Device(), "--load-threads", "2"});
  auto transport = RdmaTransport::Attach(engramd.WaitUntilServing(), "", {});
  ASSERT_TRUE(transport.ok()) << transport.status();
  Batch late(256), other(256, Layout::kTokens, 2);
  ASSERT_TRUE(late.Register(**transport).ok());
  ASSERT_TRUE(other.Register(**transport).ok());
  engramd.Signal(SIGSTOP);
  const auto first = (*transport)
                         ->Submit({.layers = late.layers(),
                                   .deadline = RealClock().Now() + absl::Milliseconds(100)});
  const auto second = (*transport)->Submit({.layers = other.layers()});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ((*transport)->Wait(*first).code(), absl::StatusCode::kDeadlineExceeded);
  (*transport)->Reap(*first);
  late.Clear();
  engramd.Signal(SIGCONT);
  const absl::Status status = (*transport)->Wait(*second);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(other.IsExact());
  EXPECT_TRUE(late.IsUntouched());
}

TEST_F(RdmaFaultTest, AQueuePairThatBreaksInMidBatchFailsItWhereItIsNotToBeSentAgain) {
  for (const bool reads : {false, true}) {
    auto transport = owner_->Attach(reads, /*resend=*/false);
    auto& rdma = static_cast<RdmaTransport&>(*transport);
    Batch batch(reads ? 2000 : 40'000);
    ASSERT_TRUE(batch.Register(rdma).ok());
    const auto ticket = rdma.Submit({.layers = batch.layers()});
    ASSERT_TRUE(ticket.ok());
    rdma.BreakForTest();
    const absl::Status status = rdma.Wait(*ticket);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_EQ(rdma.Poll(*ticket), TicketState::kFailedLent);
    rdma.Reap(*ticket);
    batch.Clear();
    absl::SleepFor(absl::Milliseconds(100));
    EXPECT_TRUE(batch.IsUntouched());  // nothing lands after Reap
    const absl::Status again = batch.LookUp(rdma);
    EXPECT_TRUE(again.ok()) << again;
    EXPECT_TRUE(batch.IsExact());
  }
}

TEST_F(RdmaFaultTest, ABatchWhoseConnectionBreaksTwiceFails) {
  auto transport = owner_->Attach();
  auto& rdma = static_cast<RdmaTransport&>(*transport);
  Batch batch(120'000);
  ASSERT_TRUE(batch.Register(rdma).ok());
  const auto ticket = rdma.Submit({.layers = batch.layers()});
  ASSERT_TRUE(ticket.ok());
  rdma.BreakForTest();
  // Another Submit opens the next connection, and sends what waits first.
  Batch small(16, Layout::kLayers, 2);
  ASSERT_TRUE(small.Register(rdma).ok());
  // The break is seen, and there is no connection.
  const MonotonicTime give_up = RealClock().Now() + absl::Seconds(20);
  while (rdma.Counts().sends != 0 && RealClock().Now() < give_up) rdma.Poll(*ticket);
  const absl::StatusOr<Ticket> next = rdma.Submit({.layers = small.layers()});
  ASSERT_TRUE(next.ok()) << next.status();
  rdma.BreakForTest();
  const absl::Status status = rdma.Wait(*ticket);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  rdma.Reap(*ticket);
  rdma.Reap(*next);
}

TEST_F(RdmaFaultTest, DeviceMemoryIsRefusedWhereTheCardHasNoSuchRegions) {
  auto transport = owner_->Attach();
  std::vector<std::byte> memory(4096);
  const absl::Status status = transport->RegisterDmabuf(0, 0, absl::MakeSpan(memory));
  // This device has none; one that has refuses a descriptor that is no dma-buf.
  EXPECT_TRUE(absl::IsUnimplemented(status) || absl::IsInvalidArgument(status)) << status;
  EXPECT_NE(status.message().find("dma-buf"), absl::string_view::npos) << status;
  auto grpc = GrpcTransport::Attach(owner_->address(), "", {});
  ASSERT_TRUE(grpc.ok());
  EXPECT_TRUE(absl::IsUnimplemented((*grpc)->RegisterDmabuf(0, 0, absl::MakeSpan(memory))));
}

TEST_F(RdmaFaultTest, AutoLandsInUnregisteredMemoryOverGrpc) {
  auto way = AutoTransport::Attach(owner_->address(), "", {});
  ASSERT_TRUE(way.ok()) << way.status();
  Batch registered(64), not_registered(64, Layout::kTokens, 2);
  ASSERT_TRUE(registered.Register(**way).ok());
  const uint64_t requests = owner_->endpoint().counts().requests;
  EXPECT_TRUE(not_registered.LookUp(**way).ok());
  EXPECT_TRUE(not_registered.IsExact());
  EXPECT_EQ(owner_->endpoint().counts().requests, requests);
  EXPECT_TRUE(registered.LookUp(**way).ok());
  EXPECT_TRUE(registered.IsExact());
  EXPECT_EQ(owner_->endpoint().counts().requests, requests + 1);
}

TEST_F(RdmaFaultTest, AutoTakesRdmaAndLosesNoLookupWhenItBreaks) {
  auto transport = AutoTransport::Attach(owner_->address(), "", {});
  ASSERT_TRUE(transport.ok()) << transport.status();
  EXPECT_EQ((*transport)->Describe(), "auto took rdma (no shm: the owner offers none)");
  transport->reset();
  auto rdma = owner_->Attach(/*reads=*/false, /*resend=*/false);
  auto* const raw = static_cast<RdmaTransport*>(rdma.get());
  auto grpc = GrpcTransport::Attach(owner_->address(), "", {});
  ASSERT_TRUE(grpc.ok());
  AutoTransport way(std::move(rdma), *std::move(grpc), "");
  std::vector<std::unique_ptr<Batch>> batches;
  std::vector<Ticket> tickets;
  for (size_t i = 0; i < 12; ++i) {
    batches.push_back(std::make_unique<Batch>(i % 3 == 0 ? 8000 : 64, Layout::kLayers, i));
    ASSERT_TRUE(batches.back()->Register(way).ok());
  }
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto ticket = way.Submit(
        {.layers = batches[i]->layers(), .deadline = RealClock().Now() + absl::Seconds(60)});
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*ticket);
    if (i == 8) raw->BreakForTest();
  }
  for (size_t i = 0; i < batches.size(); ++i) {
    const absl::Status status = way.Wait(tickets[i]);
    EXPECT_TRUE(status.ok()) << i << ": " << status;
    EXPECT_TRUE(batches[i]->IsExact()) << i;
    way.Reap(tickets[i]);
  }
  EXPECT_NE(way.Describe().find("auto took grpc (left rdma"), std::string::npos) << way.Describe();
  EXPECT_TRUE(batches[0]->LookUp(way).ok());
}

TEST_F(RdmaFaultTest, APortThatGoesDownIsRetriedFellBackFromAndComesBack) {
  auto rdma = owner_->Attach();
  auto chosen = AutoTransport::Attach(owner_->address(), "", {});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  Batch batch(64), other(64, Layout::kLayers, 3);
  ASSERT_TRUE(batch.Register(*rdma).ok());
  ASSERT_TRUE(other.Register(**chosen).ok());
  ASSERT_TRUE(batch.LookUp(*rdma).ok());
  ASSERT_EQ(system("ip link set dummy0 down"), 0);
  const absl::Status down = batch.LookUp(*rdma);
  EXPECT_EQ(down.code(), absl::StatusCode::kUnavailable) << down;
  const absl::Status fell_back = other.LookUp(**chosen);
  EXPECT_TRUE(fell_back.ok()) << fell_back;
  EXPECT_TRUE(other.IsExact());
  ASSERT_EQ(system("ip link set dummy0 up; ip addr replace 10.77.0.1/24 dev dummy0"), 0);
  absl::Status up = absl::UnavailableError("");
  for (int i = 0; i < 100 && !up.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    up = batch.LookUp(*rdma);
  }
  EXPECT_TRUE(up.ok()) << up;
  EXPECT_TRUE(batch.IsExact());
  // The good one's connection broke as well; its next lookups open another.
  for (int i = 0; i < 100 && !batch_->LookUp(*good_).ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(100));
  }
}

// --- Owners and clients that are processes.

std::vector<std::string> Flags(const SetDirectory& set) {
  return {"--table-set",   set.path(), "--listen",       "127.0.0.1:0",
          "--rdma-device", Device(),   "--load-threads", "2"};
}

// Long enough for an emulated machine whose cores are taken; how long it took is printed, not held
// to a bar.
bool WaitForClients(const RdmaEndpoint& endpoint, uint32_t count) {
  const MonotonicTime give_up = RealClock().Now() + absl::Seconds(120);
  while (endpoint.clients() != count && RealClock().Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  return endpoint.clients() == count;
}

TEST_F(RdmaFaultTest, ClientsKilledAHundredTimesUnderLoadLeaveNothing) {
  const Resources idle = Resources::Now();
  for (int i = 0; i < 100; ++i) {
    const uint64_t requests = owner_->endpoint().counts().requests;
    const pid_t client = BusyClients::Get().Start(owner_->address());
    ASSERT_TRUE(WaitForClients(owner_->endpoint(), 2)) << i;
    // Most once their batches are under way, some while they set up.
    for (int j = 0; i % 8 != 0 && j < 1000 && owner_->endpoint().counts().requests < requests + 8;
         ++j) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    kill(client, SIGKILL);
    ASSERT_TRUE(WaitForClients(owner_->endpoint(), 1)) << i;
    if (i % 10 != 0) continue;
    batch_->Clear();
    ASSERT_TRUE(batch_->LookUp(*good_).ok());
    ASSERT_TRUE(batch_->IsExact());
  }
  EXPECT_TRUE(idle.ComesBack());
}

TEST_F(RdmaFaultTest, AClientThatFallsSilentIsLetGo) {
  const pid_t client = BusyClients::Get().Start(owner_->address());
  ASSERT_TRUE(WaitForClients(owner_->endpoint(), 2));
  absl::SleepFor(absl::Seconds(1));
  kill(client, SIGSTOP);
  const MonotonicTime begin = RealClock().Now();
  EXPECT_TRUE(WaitForClients(owner_->endpoint(), 1));
  std::fprintf(stderr, "a silent client's is free after %.1f s\n",
               absl::ToDoubleSeconds(RealClock().Now() - begin));
  kill(client, SIGKILL);
}

TEST_F(RdmaFaultTest, AnOwnerThatIsKilledOrStopsAnsweringIsSeen) {
  const SetDirectory set;
  auto engramd = std::make_unique<EngramdProcess>(Flags(set));
  const std::string address = engramd->WaitUntilServing();
  auto transport = RdmaTransport::Attach(address, "", {});
  ASSERT_TRUE(transport.ok()) << transport.status();
  Batch batch(256), late(256, Layout::kLayers, 2);
  ASSERT_TRUE(batch.Register(**transport).ok());
  ASSERT_TRUE(late.Register(**transport).ok());
  ASSERT_TRUE(batch.LookUp(**transport).ok());
  // Stopped: the batch ends at its deadline, Reap soon after, and then nothing of it lands.
  engramd->Signal(SIGSTOP);
  const auto ticket = (*transport)
                          ->Submit({.layers = late.layers(),
                                    .deadline = RealClock().Now() + absl::Milliseconds(300)});
  ASSERT_TRUE(ticket.ok());
  EXPECT_EQ((*transport)->Wait(*ticket).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ((*transport)->Poll(*ticket), TicketState::kFailedLent);
  const MonotonicTime begin = RealClock().Now();
  (*transport)->Reap(*ticket);
  std::fprintf(stderr, "Reap took %.2f s\n", absl::ToDoubleSeconds(RealClock().Now() - begin));
  late.Clear();
  engramd->Signal(SIGCONT);
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_TRUE(late.IsUntouched());
  absl::Status status = absl::UnavailableError("");
  for (int i = 0; i < 100 && !status.ok(); ++i) {
    status = late.LookUp(**transport);
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(late.IsExact());
  // Killed, in the middle of a batch and before the next.
  Batch large(40'000);
  ASSERT_TRUE(large.Register(**transport).ok());
  const auto cut = (*transport)->Submit({.layers = large.layers()});
  ASSERT_TRUE(cut.ok());
  engramd->Signal(SIGKILL);
  EXPECT_EQ((*transport)->Wait(*cut).code(), absl::StatusCode::kUnavailable);
  (*transport)->Reap(*cut);
  EXPECT_EQ(batch.LookUp(**transport, absl::Seconds(3)).code(), absl::StatusCode::kUnavailable);
  transport->reset();
}

TEST_F(RdmaFaultTest, AnOwnerThatIsToldToStopLeavesWithoutDelay) {
  const SetDirectory set;
  EngramdProcess engramd(Flags(set));
  auto transport = RdmaTransport::Attach(engramd.WaitUntilServing(), "", {});
  ASSERT_TRUE(transport.ok()) << transport.status();
  Batch batch(256);
  ASSERT_TRUE(batch.Register(**transport).ok());
  ASSERT_TRUE(batch.LookUp(**transport).ok());
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
  const absl::Status status = batch.LookUp(**transport, absl::Seconds(3));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

TEST_F(RdmaFaultTest, AnEngramdThatCannotHaveRdmaSaysWhatToDo) {
  const SetDirectory set;
  std::vector<std::string> flags = Flags(set);
  flags[5] = "nope0";
  EngramdProcess missing(flags);
  EXPECT_EQ(missing.WaitForEnd(), 1);
  EXPECT_NE(missing.Log().find("no RDMA device nope0; there are: rxe0"), std::string::npos)
      << missing.Log();
  flags = Flags(set);
  flags.push_back("--rdma-read");
  EngramdProcess poor(flags, {"setpriv", "--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock",
                              "prlimit", "--memlock=65536:65536"});
  EXPECT_EQ(poor.WaitForEnd(), 1);
  EXPECT_NE(poor.Log().find("LimitMEMLOCK=infinity"), std::string::npos) << poor.Log();
  // Without RDMA a client is told so.
  EngramdProcess plain({"--table-set", set.path(), "--listen", "127.0.0.1:0"});
  const std::string address = plain.WaitUntilServing();
  const auto refused = RdmaTransport::Attach(address, "", {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(refused.status().message().find("--rdma-device"), std::string::npos);
  auto chosen = AutoTransport::Attach(address, "", {});
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ((*chosen)->Describe().find("auto took grpc (no shm: the owner offers none; no rdma: "),
            0u)
      << (*chosen)->Describe();
}

}  // namespace
}  // namespace engram::rdma
