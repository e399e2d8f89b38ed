#include "client/cluster/open_faster.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

AttachedTableSet Attached(const AddressScheme& scheme) {
  AttachedTableSet attached;
  attached.manifest.id = testing_cluster::kSetId;
  attached.manifest.scheme = scheme;
  return attached;
}

TEST(OpenFaster, AnotherStoresSocketIsToldByItsRows) {
  const AddressScheme scheme = testing_cluster::Scheme();
  const StoreState half = testing_cluster::Store(scheme, "a", 0, 2);
  AttachedTableSet attached = Attached(scheme);
  EXPECT_TRUE(CheckHoldsThoseOf(attached, half).ok());  // all of the set
  for (const auto& layer : half.sets[0].layers) attached.held.push_back(layer.rows);
  EXPECT_TRUE(CheckHoldsThoseOf(attached, half).ok());
  const absl::Status other = CheckHoldsThoseOf(attached, testing_cluster::Store(scheme, "b", 1, 2));
  EXPECT_TRUE(absl::IsNotFound(other)) << other;
  EXPECT_THAT(std::string(other.message()), HasSubstr("another owner"));
  EXPECT_FALSE(CheckHoldsThoseOf(attached, testing_cluster::Store(scheme, "c", 0, 1)).ok());
  // A quarter that is within the half.
  EXPECT_TRUE(CheckHoldsThoseOf(attached, testing_cluster::Store(scheme, "d", 1, 4)).ok());
  attached.manifest.id = std::string(64, 'b');
  EXPECT_FALSE(CheckHoldsThoseOf(attached, half).ok());
}

TEST(OpenFaster, ModesOfAClusterAreNamed) {
  EXPECT_FALSE(ParseClusterMode("")->grpc_alone);
  EXPECT_TRUE(ParseClusterMode("grpc")->grpc_alone);
  EXPECT_TRUE(ParseClusterMode("ring")->rings_alone);
  EXPECT_TRUE(ParseClusterMode("read")->reads);
  EXPECT_TRUE(ParseClusterMode("write").ok());
  EXPECT_THAT(std::string(ParseClusterMode("unary").status().message()),
              HasSubstr("grpc, ring, write and read"));
}

}  // namespace
}  // namespace engram
