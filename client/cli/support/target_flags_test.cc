#include "client/cli/support/target_flags.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/support/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ConnectionFlags, AreRefusedByNameWhereThereIsNoConnection) {
  std::vector<std::pair<std::string, TargetFlags>> all(9);
  const char* const names[] = {"--tls-ca",          "--tls-cert",    "--tls-key",
                               "--tls-server-name", "--token-file",  "--traceparent",
                               "--rdma-device",     "--connections", "--streams"};
  for (size_t i = 0; i < all.size(); ++i) all[i].first = names[i];
  all[0].second.security.tls_ca = "f";
  all[1].second.security.tls_cert = "f";
  all[2].second.security.tls_key = "f";
  all[3].second.security.tls_server_name = "n";
  all[4].second.security.token_file = "f";
  all[5].second.security.traceparent = "t";
  all[6].second.rdma_device = "d";
  all[7].second.connections = 2;
  all[8].second.streams = 2;
  for (const auto& [name, flags] : all) {
    for (const std::string target : {"embedded:/set", "shm:/socket"}) {
      const absl::Status status = CheckConnectionFlags(flags, {target});
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name << " " << target;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(name + " is of no use"), HasSubstr(target)));
    }
    for (const std::string target : {"grpc:h:1", "grpc:unix:/s", "rdma:h:1", "auto:h:1", "what"}) {
      EXPECT_TRUE(CheckConnectionFlags(flags, {target}).ok()) << name << " " << target;
    }
    // Of use for one of those that are compared.
    EXPECT_TRUE(CheckConnectionFlags(flags, {"embedded:/set", "grpc:h:1"}).ok()) << name;
    EXPECT_FALSE(CheckConnectionFlags(flags, {"embedded:/set", "shm:/s"}).ok()) << name;
  }
  EXPECT_TRUE(CheckConnectionFlags({}, {"embedded:/set"}).ok());
}

TEST(AttachTo, AZoneThatIsNoNameIsBadUsage) {
  setenv("ENGRAM_ZONE", "a zone", 1);
  TargetFlags flags;
  flags.target = "embedded:/nowhere";
  int exit_code = 0;
  const absl::Status status = AttachTo(flags, &exit_code).status();
  unsetenv("ENGRAM_ZONE");
  EXPECT_EQ(exit_code, kBadUsage);
  EXPECT_THAT(std::string(status.message()), HasSubstr("zone"));
  EXPECT_EQ(ZoneFromEnvironment(), "");
}

// As the registry of an engramd words them.
// A list, and a source of addresses, are no one host's name.
TEST(AttachTo, OfAClusterNoHostIsLookedUp) {
  for (const std::string target :
       {"cluster:127.0.0.1:1,127.0.0.1:2", "cluster:etcd:127.0.0.1:1,127.0.0.1:2/engram"}) {
    TargetFlags flags;
    flags.target = target;
    flags.attach_timeout = "100ms";
    int exit_code = 0;
    const absl::Status status = AttachTo(flags, &exit_code).status();
    EXPECT_EQ(exit_code, kFailed);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  }
}

TEST(ExitCodeOfAttach, ASetThatIsNotServedIsNoBadUsage) {
  EXPECT_EQ(ExitCodeOfAttach(absl::FailedPreconditionError(
                "engramd at h:1: table set x is not served here; served: y")),
            kFailed);
  EXPECT_EQ(ExitCodeOfAttach(absl::FailedPreconditionError(
                "engramd at h:1: no table set can be chosen; none is served")),
            kFailed);
  EXPECT_EQ(ExitCodeOfAttach(absl::UnavailableError("nobody")), kFailed);
  EXPECT_EQ(ExitCodeOfAttach(absl::FailedPreconditionError(
                "engramd at h:1: name one of the table sets; served: x, y")),
            kBadUsage);
  EXPECT_EQ(ExitCodeOfAttach(absl::InvalidArgumentError("no target")), kBadUsage);
}

}  // namespace
}  // namespace engram::cli
