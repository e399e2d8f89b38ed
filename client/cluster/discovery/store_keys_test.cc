#include "client/cluster/discovery/store_keys.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/discovery/registered_store.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class StoreKeysTest : public testing::Test {
 protected:
  std::vector<absl::Status> told_;
  StoreKeys keys_{EtcdPlace{{"e:1"}, "engram"},
                  [this](const absl::Status& why) { told_.push_back(why); }};
};

TEST_F(StoreKeysTest, HasEachAddressOnce) {
  keys_.Put("engram/i1", StoreValue("b:1"));
  keys_.Put("engram/i2", StoreValue("a:1"));
  keys_.Put("engram/i3", StoreValue("a:1"));
  EXPECT_THAT(keys_.Addresses(), ElementsAre("a:1", "b:1"));
  keys_.Delete("engram/i2");
  keys_.Delete("engram/i9");
  EXPECT_THAT(keys_.Addresses(), ElementsAre("a:1", "b:1"));
  keys_.Put("engram/i3", StoreValue("c:1"));
  EXPECT_THAT(keys_.Addresses(), ElementsAre("b:1", "c:1"));
  keys_.Clear();
  EXPECT_THAT(keys_.Addresses(), IsEmpty());
}

TEST_F(StoreKeysTest, TellsOfEachKeyOnceAndOfFew) {
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 40; ++i) keys_.Put(absl::StrCat("engram/j", i), "junk");
  }
  EXPECT_EQ(keys_.ignored(), 80u);
  EXPECT_THAT(told_, SizeIs(StoreKeys::kMaxTold));
  EXPECT_THAT(keys_.Addresses(), IsEmpty());
}

TEST_F(StoreKeysTest, ForgetsAStoreWhoseValueIsNoneAnyMore) {
  keys_.Put("engram/i1", StoreValue("a:1"));
  keys_.Put("engram/i1", "");
  EXPECT_THAT(keys_.Addresses(), IsEmpty());
  keys_.Put("engram/i1", StoreValue("a:1"));
  EXPECT_THAT(keys_.Addresses(), ElementsAre("a:1"));
}

TEST_F(StoreKeysTest, IsBounded) {
  for (size_t i = 0; i <= StoreKeys::kMaxStores; ++i) {
    keys_.Put(absl::StrCat("engram/i", i), StoreValue(absl::StrCat("h", i, ":1")));
  }
  EXPECT_THAT(keys_.Addresses(), SizeIs(StoreKeys::kMaxStores));
  EXPECT_EQ(keys_.ignored(), 1u);
  // One that is known may still move.
  keys_.Put("engram/i0", StoreValue("moved:1"));
  EXPECT_THAT(keys_.Addresses(), testing::Contains("moved:1"));
}

}  // namespace
}  // namespace engram
