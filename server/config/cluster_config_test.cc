#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/discovery/etcd_place.h"
#include "memstore/partition/partition.h"
#include "server/config/config.h"

namespace engram {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& flags,
                                  const std::string& listen = "127.0.0.1:0") {
  std::vector<const char*> argv = {"engramd", "--table-set", "/a", "--listen", listen.c_str()};
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data(), {});
}

std::string Error(const std::vector<std::string>& flags) {
  const auto parsed = Parse(flags);
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(parsed.status().message());
}

TEST(PartitionConfig, IsAnIndexOrColumns) {
  EXPECT_EQ(Parse({})->config->partition, std::nullopt);
  const auto index = Parse({"--partition", "2/3"});
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->config->partition, Partition(PartitionIndex{2, 3}));
  const auto columns = Parse({"--partition-columns", "1:0-3,14:2"});
  ASSERT_TRUE(columns.ok()) << columns.status();
  EXPECT_EQ(columns->config->partition,
            Partition(std::vector<HeldColumns>{{1, {{0, 4}}}, {14, {{2, 1}}}}));
  EXPECT_THAT(Error({"--partition", "3/3"}), HasSubstr("--partition 3/3: "));
  EXPECT_THAT(Error({"--partition-columns", "1:3-2"}), HasSubstr("--partition-columns 1:3-2: "));
  EXPECT_THAT(Error({"--partition", "0/2", "--partition-columns", "1:0"}),
              HasSubstr("give one of them"));
}

TEST(ZoneConfig, IsAPlainName) {
  EXPECT_EQ(Parse({"--zone", "eu-west.1_b"})->config->zone, "eu-west.1_b");
  EXPECT_THAT(Error({"--zone", "a zone"}), HasSubstr("--zone: "));
  EXPECT_EQ(Parse({})->config->zone, "");
}

TEST(RegisterConfig, TakesEveryFlag) {
  const auto parsed = Parse({"--register", "etcd:e0:2379,e1:2379/engram/prod", "--advertise",
                             "store-1:7300", "--register-ca", "ca", "--register-cert", "cert",
                             "--register-key", "key", "--register-server-name", "etcd.cluster",
                             "--register-user", "store", "--register-password-file", "word"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ServerConfig& config = *parsed->config;
  ASSERT_TRUE(config.register_place.has_value());
  EXPECT_THAT(config.register_place->endpoints, ElementsAre("e0:2379", "e1:2379"));
  EXPECT_EQ(config.register_place->prefix, "engram/prod");
  EXPECT_EQ(config.advertise, "store-1:7300");
  EXPECT_EQ(config.register_security.ca, "ca");
  EXPECT_EQ(config.register_security.cert, "cert");
  EXPECT_EQ(config.register_security.key, "key");
  EXPECT_EQ(config.register_security.server_name, "etcd.cluster");
  EXPECT_EQ(config.register_security.user, "store");
  EXPECT_EQ(config.register_security.password_file, "word");
}

TEST(RegisterConfig, RegistersNowhereByItself) {
  const auto parsed = Parse({});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_FALSE(parsed->config->register_place.has_value());
}

TEST(RegisterConfig, RefusesWhatDoesNotGoTogether) {
  const std::string place = "etcd:127.0.0.1:2379/engram";
  EXPECT_THAT(Error({"--advertise", "h:1"}),
              AllOf(HasSubstr("--advertise"), HasSubstr("without --register")));
  EXPECT_THAT(Error({"--register-ca", "ca"}), HasSubstr("without --register"));
  EXPECT_THAT(Error({"--register", place}), HasSubstr("needs --advertise"));
  for (const std::string advertise : {"h", "h:0", "0.0.0.0:7300", "[::]:7300"}) {
    EXPECT_THAT(Error({"--register", place, "--advertise", advertise}), HasSubstr("--advertise"));
  }
  const std::vector<std::string> both = {"--register", place, "--advertise", "h:1"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> flags = both;
    flags.insert(flags.end(), more.begin(), more.end());
    return Error(flags);
  };
  EXPECT_THAT(with({"--register-cert", "c"}), HasSubstr("without --register-key"));
  EXPECT_THAT(with({"--register-key", "k"}), HasSubstr("without --register-cert"));
  EXPECT_THAT(with({"--register-cert", "c", "--register-key", "k"}),
              HasSubstr("without --register-ca"));
  EXPECT_THAT(with({"--register-server-name", "n"}), HasSubstr("without --register-ca"));
  EXPECT_THAT(with({"--register-user", "u"}), HasSubstr("without --register-password-file"));
  EXPECT_THAT(with({"--register-password-file", "f"}), HasSubstr("without --register-user"));
}

TEST(RegisterConfig, SendsNoPasswordInTheClear) {
  const std::vector<std::string> user = {
      "--advertise", "h:1", "--register-user", "u", "--register-password-file", "f", "--register"};
  std::vector<std::string> far = user;
  far.push_back("etcd:e0:2379/engram");
  EXPECT_THAT(Error(far), AllOf(HasSubstr("e0:2379"), HasSubstr("--register-ca")));
  std::vector<std::string> here = user;
  here.push_back("etcd:127.0.0.1:2379/engram");
  EXPECT_TRUE(Parse(here).ok());
}

TEST(RegisterConfig, SaysTheFormOfAPlace) {
  for (const std::string place :
       {"e0:2379/engram", "etcd:e0:2379", "etcd:e0/engram", "zk:e0:1/e"}) {
    EXPECT_THAT(Error({"--register", place, "--advertise", "h:1"}),
                AllOf(HasSubstr("--register"), HasSubstr("/PREFIX")));
  }
}

}  // namespace
}  // namespace engram
