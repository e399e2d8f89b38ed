#include "client/cli/support/target_flags.h"

#include <CLI/CLI.hpp>
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
  std::vector<std::pair<std::string, TargetFlags>> all(10);
  const char* const names[] = {
      "--tls-ca",      "--tls-cert",    "--tls-key",     "--tls-server-name", "--token-file",
      "--traceparent", "--rdma-device", "--connections", "--streams",         "--tls-identity"};
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
  all[9].second.security.tls_identities = {"DNS:a"};
  for (const auto& [name, flags] : all) {
    for (const std::string target : {"embedded:/set", "shm:/socket"}) {
      const absl::Status status = CheckConnectionFlags(flags, {target});
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name << " " << target;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(name + " is of no use"), HasSubstr(target)));
    }
    for (const std::string target :
         {"grpc:h:1", "grpc:unix:/s", "rdma:h:1", "auto:h:1", "cluster:h:1", "what"}) {
      EXPECT_TRUE(CheckConnectionFlags(flags, {target}).ok()) << name << " " << target;
    }
    // Of use for one of those that are compared.
    EXPECT_TRUE(CheckConnectionFlags(flags, {"embedded:/set", "grpc:h:1"}).ok()) << name;
    EXPECT_FALSE(CheckConnectionFlags(flags, {"embedded:/set", "shm:/s"}).ok()) << name;
  }
  EXPECT_TRUE(CheckConnectionFlags({}, {"embedded:/set"}).ok());
}

TEST(ConnectionFlags, OfEtcdAreRefusedByNameWhereItIsNotAsked) {
  const std::pair<const char*, std::string EtcdSecurity::*> all[] = {
      {"--etcd-ca", &EtcdSecurity::ca},     {"--etcd-cert", &EtcdSecurity::cert},
      {"--etcd-key", &EtcdSecurity::key},   {"--etcd-server-name", &EtcdSecurity::server_name},
      {"--etcd-user", &EtcdSecurity::user}, {"--etcd-password-file", &EtcdSecurity::password_file}};
  for (const auto& [name, field] : all) {
    TargetFlags flags;
    flags.etcd.*field = "x";
    for (const std::string target : {"grpc:h:1", "cluster:h:1", "cluster:dns:h:1", "shm:/s"}) {
      EXPECT_THAT(std::string(CheckConnectionFlags(flags, {target}).message()),
                  AllOf(HasSubstr(std::string(name) + " is of no use"), HasSubstr(target)));
    }
    EXPECT_TRUE(CheckConnectionFlags(flags, {"cluster:etcd:h:1/p"}).ok()) << name;
    EXPECT_TRUE(CheckConnectionFlags(flags, {"grpc:h:1", "cluster:etcd:h:1/p"}).ok()) << name;
  }
}

TEST(SecurityFlags, AnIdentityIsOneWord) {
  CLI::App app;
  std::string place;
  SecurityOptions security;
  app.add_option("place", place);
  AddSecurityFlags(app, &security);
  app.parse("--tls-identity DNS:a,URI:b --tls-identity c word");
  EXPECT_EQ(security.tls_identities, (std::vector<std::string>{"DNS:a", "URI:b", "c"}));
  EXPECT_EQ(place, "word");
}

TEST(AttachTo, WhatIsNotGivenOfEtcdIsReadFromTheEnvironment) {
  setenv("ENGRAM_ETCD_CA", "ca", 1);
  setenv("ENGRAM_ETCD_USER", "somebody", 1);
  setenv("ENGRAM_TLS_IDENTITIES", "DNS:a,URI:b", 1);
  const EtcdSecurity etcd = WithEnvironment(EtcdSecurity{.user = "given"});
  EXPECT_EQ(etcd.ca, "ca");
  EXPECT_EQ(etcd.user, "given");
  EXPECT_EQ(etcd.password_file, "");
  EXPECT_EQ(WithEnvironment(SecurityOptions()).tls_identities,
            (std::vector<std::string>{"DNS:a", "URI:b"}));
  EXPECT_EQ(WithEnvironment(SecurityOptions{.tls_identities = {"c"}}).tls_identities,
            std::vector<std::string>{"c"});
  for (const char* name : {"ENGRAM_ETCD_CA", "ENGRAM_ETCD_USER", "ENGRAM_TLS_IDENTITIES"}) {
    unsetenv(name);
  }
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
