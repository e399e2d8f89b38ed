#include "client/transport/auto/auto_choice.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

void ExpectChoice(const AutoFindings& findings, AutoWay way, bool found, const std::string& why) {
  const AutoChoice choice = ChooseWay(findings);
  EXPECT_EQ(choice.way, way);
  EXPECT_EQ(choice.found, found);
  EXPECT_EQ(choice.why, why);
}

const absl::Status kOk = absl::OkStatus();
const absl::Status kRefused = absl::PermissionDeniedError("user 7 is not listed");
const absl::Status kNoDevice = absl::UnimplementedError("it has no RDMA");

TEST(AutoChoice, SharedMemoryComesFirstWhereItsSocketIsHere) {
  AutoFindings findings{.shm_socket = "/run/s", .socket_is_here = true, .shm = {}, .rdma = {}};
  ExpectChoice(findings, AutoWay::kShm, false, "");
  findings.shm = kOk;
  ExpectChoice(findings, AutoWay::kShm, true, "");
}

TEST(AutoChoice, RdmaComesNextAndSaysWhyNotSharedMemory) {
  AutoFindings findings;
  ExpectChoice(findings, AutoWay::kRdma, false, "no shm: the owner offers none");
  findings.shm_socket = "/run/s";
  ExpectChoice(findings, AutoWay::kRdma, false,
               "no shm: the owner's socket /run/s is not on this machine");
  findings.socket_is_here = true;
  findings.shm = kRefused;
  ExpectChoice(findings, AutoWay::kRdma, false, "no shm: user 7 is not listed");
  findings.rdma = kOk;
  ExpectChoice(findings, AutoWay::kRdma, true, "no shm: user 7 is not listed");
}

TEST(AutoChoice, GrpcIsThereInAnyCaseAndSaysWhyNotTheOthers) {
  AutoFindings findings{.shm_socket = "", .socket_is_here = false, .shm = {}, .rdma = kNoDevice};
  ExpectChoice(findings, AutoWay::kGrpc, true,
               "no shm: the owner offers none; no rdma: it has no RDMA");
  findings.shm_socket = "/run/s";
  findings.socket_is_here = true;
  findings.shm = kRefused;
  ExpectChoice(findings, AutoWay::kGrpc, true,
               "no shm: user 7 is not listed; no rdma: it has no RDMA");
}

}  // namespace
}  // namespace engram
