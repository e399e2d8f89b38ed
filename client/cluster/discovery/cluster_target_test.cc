#include "client/cluster/discovery/cluster_target.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string WhyNot(const std::string& place) {
  const auto target = ParseClusterTarget(place);
  return target.ok() ? "" : std::string(target.status().message());
}

TEST(ClusterTarget, IsAList) {
  const auto target = ParseClusterTarget("a:7300,unix:/run/e.sock,/run/f.sock");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->source, ClusterTarget::Source::kList);
  EXPECT_THAT(target->addresses, ElementsAre("a:7300", "unix:/run/e.sock", "unix:/run/f.sock"));
}

TEST(ClusterTarget, IsAName) {
  const auto target = ParseClusterTarget("dns:stores.engram.svc:7300");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->source, ClusterTarget::Source::kDns);
  EXPECT_EQ(target->name, "stores.engram.svc");
  EXPECT_EQ(target->port, "7300");
}

TEST(ClusterTarget, IsInEtcd) {
  const auto target = ParseClusterTarget("etcd:e0:2379,e1:2379/engram/prod");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->source, ClusterTarget::Source::kEtcd);
  EXPECT_THAT(target->etcd.endpoints, ElementsAre("e0:2379", "e1:2379"));
  EXPECT_EQ(target->etcd.prefix, "engram/prod");
}

TEST(ClusterTarget, BoundsAList) {
  std::string list = "h0:1";
  for (int i = 1; i < 1024; ++i) list += ",h" + std::to_string(i) + ":1";
  EXPECT_EQ(WhyNot(list), "");
  EXPECT_THAT(WhyNot(list + ",h:1"), HasSubstr("more than 1024"));
}

TEST(ClusterTarget, SaysWhichAddressIsNone) {
  EXPECT_THAT(WhyNot("a:1,b"), HasSubstr("\"b\" is no address"));
  EXPECT_THAT(WhyNot("unix:/a,/a"), HasSubstr("unix:/a is given twice"));
  EXPECT_THAT(WhyNot("a:1,unix:/" + std::string(107, 'x')), HasSubstr("is no address"));
  EXPECT_THAT(WhyNot("dns:stores"), HasSubstr("stores is no name and port"));
}

}  // namespace
}  // namespace engram
