#include <initializer_list>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/discovery/etcd_place.h"
#include "memstore/discovery/host_and_port.h"
#include "memstore/discovery/registered_store.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string WhyNot(const std::string& text) {
  const auto place = ParseEtcdPlace(text);
  return place.ok() ? "" : std::string(place.status().message());
}

TEST(HostAndPort, TellsWhereItLeads) {
  EXPECT_EQ(HostOf("[::1]:7300"), "[::1]");
  for (const char* host : {"127.0.0.1", "127.9.9.9", "localhost", "[::1]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const char* host : {"10.0.0.1", "localhost.example", "[::]", "0.0.0.0"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
  EXPECT_TRUE(IsWildcardHost("0.0.0.0"));
  EXPECT_TRUE(IsWildcardHost("[::]"));
  EXPECT_FALSE(IsWildcardHost("10.0.0.0"));
}

TEST(EtcdPlace, IsReadAndWritten) {
  const auto place = ParseEtcdPlace("a:2379,10.0.0.1:2379,[::1]:1/engram/prod/");
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_THAT(place->endpoints, ElementsAre("a:2379", "10.0.0.1:2379", "[::1]:1"));
  EXPECT_EQ(place->prefix, "engram/prod");
  EXPECT_EQ(place->KeyPrefix(), "engram/prod/");
  EXPECT_EQ(place->KeyRangeEnd(), "engram/prod0");
  EXPECT_EQ(place->Text(), "a:2379,10.0.0.1:2379,[::1]:1/engram/prod");
  EXPECT_FALSE(place->IsLoopback());
  EXPECT_TRUE(ParseEtcdPlace("127.0.0.1:2379,localhost:1/e")->IsLoopback());
  EXPECT_EQ(ParseEtcdPlace("a:2379//engram")->prefix, "/engram");
}

TEST(EtcdPlace, RefusesTheRestWithTheForm) {
  EXPECT_THAT(WhyNot("a:2379"), HasSubstr("no prefix"));
  EXPECT_THAT(WhyNot("a:2379/"), HasSubstr("no prefix"));
  EXPECT_THAT(WhyNot("a:2379///"), HasSubstr("no prefix"));
  EXPECT_THAT(WhyNot("a/engram"), HasSubstr("\"a\" is no HOST:PORT"));
  EXPECT_THAT(WhyNot("a:2379,/engram"), HasSubstr("\"\" is no HOST:PORT"));
  EXPECT_THAT(WhyNot("a:2379,a:2379/engram"), HasSubstr("twice"));
  EXPECT_THAT(WhyNot("a:2379/en gram"), HasSubstr("blanks"));
  EXPECT_THAT(WhyNot("a:2379/" + std::string(201, 'x')), HasSubstr("200"));
  EXPECT_THAT(WhyNot("http://a:2379/engram"), HasSubstr("HOST:PORT[,HOST:PORT...]/PREFIX"));
  std::string many = "h0:1";
  for (int i = 1; i <= 16; ++i) many += ",h" + std::to_string(i) + ":1";
  EXPECT_THAT(WhyNot(many + "/engram"), HasSubstr("more than 16"));
}

TEST(RegisteredStore, IsReadAsItIsWritten) {
  const EtcdPlace place{{"a:1"}, "engram"};
  EXPECT_EQ(StoreKey(place, "i1"), "engram/i1");
  EXPECT_EQ(StoreValue("10.0.0.7:7300"), "address=10.0.0.7:7300\n");
  const auto store = ReadStore(place, StoreKey(place, "i1"), StoreValue("10.0.0.7:7300"));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(*store, (RegisteredStore{"i1", "10.0.0.7:7300"}));
  // What a later version adds is skipped.
  EXPECT_TRUE(ReadStore(place, "engram/i1", "zone=a\naddress=h:1\nweight=2\n").ok());
}

TEST(RegisteredStore, RefusesWhatIsNone) {
  const EtcdPlace place{{"a:1"}, "engram"};
  for (const auto& [key, value] : std::initializer_list<std::pair<std::string, std::string>>{
           {"other/i1", "address=h:1\n"},
           {"engram/", "address=h:1\n"},
           {"engram/a/b", "address=h:1\n"},
           {"engram/i 1", "address=h:1\n"},
           {"engram/i1", ""},
           {"engram/i1", "h:1"},
           {"engram/i1", "address=h\n"},
           {"engram/i1", "address=\n"},
           {"engram/i1", "address=h:1\naddress=h:2\n"},
           {"engram/i1", "address=h:1\n" + std::string(5000, 'x')}}) {
    EXPECT_EQ(ReadStore(place, key, value).status().code(), absl::StatusCode::kInvalidArgument)
        << key << " " << value;
  }
  // Nothing that a terminal obeys gets into the message.
  EXPECT_EQ(ReadStore(place, "engram/i1", "\x1b[2J").status().message().find('\x1b'),
            absl::string_view::npos);
}

}  // namespace
}  // namespace engram
