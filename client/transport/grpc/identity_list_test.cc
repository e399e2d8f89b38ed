#include "client/transport/grpc/identity_list.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

IdentityList List(const std::vector<std::string>& names) {
  const auto list = IdentityList::Create(names);
  EXPECT_TRUE(list.ok()) << list.status();
  return list.value_or(IdentityList());
}

TEST(IdentityList, TakesNamesAsTheyAreListed) {
  const IdentityList list = List({"store-1.engram", "DNS:*.prod.svc", "URI:spiffe://prod/engram"});
  EXPECT_TRUE(list.HasDns("store-1.engram"));
  EXPECT_TRUE(list.HasDns("Store-1.ENGRAM"));
  EXPECT_TRUE(list.HasDns("*.prod.svc"));  // what the certificate carries
  EXPECT_FALSE(list.HasDns("store-1.prod.svc"));
  EXPECT_FALSE(list.HasDns("store-1.engram.evil"));
  EXPECT_FALSE(list.HasDns("xstore-1.engram"));
  EXPECT_FALSE(list.HasDns(""));
  EXPECT_FALSE(list.HasDns("spiffe://prod/engram"));
  EXPECT_TRUE(list.HasUri("spiffe://prod/engram"));
  EXPECT_FALSE(list.HasUri("spiffe://prod/engram/"));
  EXPECT_FALSE(list.HasUri("SPIFFE://prod/engram"));
  EXPECT_FALSE(list.HasUri("store-1.engram"));
}

TEST(IdentityList, APatternIsTheBeginningOfUris) {
  const IdentityList list = List({"URI:spiffe://prod/engram/*"});
  EXPECT_TRUE(list.HasUri("spiffe://prod/engram/store-1"));
  EXPECT_FALSE(list.HasUri("spiffe://prod/engramx"));
  EXPECT_FALSE(list.HasUri("spiffe://prod.evil/engram/store-1"));
  EXPECT_FALSE(list.HasDns("spiffe://prod/engram/store-1"));
  EXPECT_EQ(list.Text(), "URI:spiffe://prod/engram/*");
}

TEST(IdentityList, RefusesWhatWouldTakeAnybody) {
  for (const std::string none :
       {"", "DNS:", "URI:", "store*", "DNS:store-*", "*", "URI:*", "URI:spiffe://*",
        "URI:spiffe:///*", "URI:spiffe://prod*", "a b", "IP:10.0.0.1", "DNS:a\nb"}) {
    const auto list = IdentityList::Create({{none}});
    EXPECT_EQ(list.status().code(), absl::StatusCode::kInvalidArgument) << none;
    EXPECT_THAT(std::string(list.status().message()),
                AllOf(HasSubstr("DNS:NAME"), HasSubstr("URI:")))
        << none;
  }
  const std::vector<std::string> many(IdentityList::kMost + 1, "a");
  EXPECT_FALSE(IdentityList::Create(many).ok());
}

}  // namespace
}  // namespace engram
