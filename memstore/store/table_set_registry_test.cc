#include "memstore/store/table_set_registry.h"

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class StoreTest : public ::testing::Test {
 protected:
  StoreTest()
      : directory_(absl::StrCat(::testing::TempDir(), "/store_",
                                ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~StoreTest() override { std::filesystem::remove_all(directory_); }

  // A set of its own for each name and row width.
  std::shared_ptr<const TableSet> Set(const std::string& name, uint32_t row_bytes) {
    testing::SmallTableSet small;
    small.name = name;
    small.layers[0].row_bytes = row_bytes;
    EXPECT_TRUE(WriteSmallTableSet(small, directory_).ok());
    auto set = TableSet::Load(directory_, {});
    EXPECT_TRUE(set.ok()) << set.status();
    return *std::move(set);
  }

  const std::string directory_;
  FakeClock clock_;
  TableSetRegistry registry_{clock_};
};

TEST_F(StoreTest, FindsById) {
  const auto a = Set("a", 64);
  const auto b = Set("b", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  ASSERT_TRUE(registry_.Publish(b).ok());
  EXPECT_EQ(*registry_.Acquire(a->id()), a);
  EXPECT_EQ(*registry_.Acquire(b->id()), b);
  EXPECT_EQ(registry_.List().size(), 2u);
}

TEST_F(StoreTest, AcquireTakesIdsAloneAndListsWhatIsServed) {
  const auto a = Set("a", 64);
  absl::Status status = registry_.Acquire(a->id()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("none is served"));
  ASSERT_TRUE(registry_.Publish(a).ok());
  for (const std::string& id : {std::string("a"), std::string(), std::string("nonsense")}) {
    status = registry_.Acquire(id).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.message(), HasSubstr("served: a " + a->id()));
  }
}

TEST_F(StoreTest, TooFewDigitsOfAnIdAreSaidToBeTooFew) {
  const auto a = Set("a", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  const char* const fix = "an id is taken from its first 12 digits on";
  EXPECT_TRUE(registry_.Resolve(a->id().substr(0, 12)).ok());
  EXPECT_THAT(registry_.Resolve(a->id().substr(0, 11)).status().message(), HasSubstr(fix));
  EXPECT_THAT(registry_.Resolve("e14e").status().message(), HasSubstr(fix));
  for (const std::string& other : {std::string("nonsense"), std::string(12, 'e')}) {
    EXPECT_THAT(registry_.Resolve(other).status().message(), Not(HasSubstr(fix)));
  }
}

TEST_F(StoreTest, ResolveTakesIdsAndNamesAndTheOnlyOne) {
  const auto a = Set("a", 64);
  EXPECT_EQ(registry_.Resolve("").status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(registry_.Publish(a).ok());
  EXPECT_EQ(*registry_.Resolve(""), a);
  EXPECT_EQ(*registry_.Resolve("a"), a);
  EXPECT_EQ(*registry_.Resolve(a->id()), a);
  const auto b = Set("b", 64);
  ASSERT_TRUE(registry_.Publish(b).ok());
  EXPECT_EQ(*registry_.Resolve("b"), b);
  for (const std::string& what : {std::string(), std::string("c")}) {
    const absl::Status status = registry_.Resolve(what).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("a ", a->id(), ", b ", b->id())));
  }
}

// Whoever may have none of them learns neither names nor ids, nor whether there is a set of a name.
TEST_F(StoreTest, OfSetsThatMayNotBeHadNothingIsTold) {
  const auto mine = Set("mine", 64), secret = Set("secret", 64), gone = Set("gone", 64);
  for (const auto& set : {mine, secret, gone}) ASSERT_TRUE(registry_.Publish(set).ok());
  ASSERT_TRUE(registry_.Fence(gone->id()).ok());
  const auto may_have = [](absl::string_view name) {
    return name == "mine" ? absl::OkStatus()
                          : absl::PermissionDeniedError(absl::StrCat("not ", name));
  };
  const std::string beginning = secret->id().substr(0, 12);
  for (const std::string& asked :
       {std::string("secret"), std::string("nosuchset"), secret->id(), beginning, gone->id(),
        gone->id().substr(0, 20), std::string(64, '0'), std::string("e14e")}) {
    for (const absl::Status& status : {registry_.Resolve(asked, may_have).status(),
                                       registry_.Acquire(asked, may_have).status()}) {
      EXPECT_FALSE(status.ok()) << asked;
      EXPECT_FALSE(absl::IsDataLoss(status)) << status;
      for (const auto& hidden : {secret, gone}) {
        for (const std::string& word : {hidden->name(), hidden->id()}) {
          EXPECT_TRUE(asked == word || !absl::StrContains(status.message(), word)) << status;
        }
      }
    }
  }
  // The same of a name that is there and one that is not.
  EXPECT_EQ(registry_.Resolve("secret", may_have).status().message(), "not secret");
  EXPECT_EQ(registry_.Resolve("nosuchset", may_have).status().message(), "not nosuchset");
  EXPECT_EQ(registry_.Acquire(secret->id(), may_have).status().message(), "not " + secret->id());
  // Of those that it may have it is told, and there is but one of them.
  EXPECT_THAT(registry_.Resolve(std::string(64, '0'), may_have).status().message(),
              HasSubstr("served: mine " + mine->id()));
  EXPECT_EQ(*registry_.Resolve("", may_have), mine);
  EXPECT_EQ(*registry_.Acquire(mine->id(), may_have), mine);
  const auto nothing = [](absl::string_view) { return absl::PermissionDeniedError("no"); };
  const absl::Status none = registry_.Resolve("", nothing).status();
  EXPECT_TRUE(absl::IsPermissionDenied(none)) << none;
  EXPECT_THAT(none.message(), Not(HasSubstr("secret")));
}

TEST_F(StoreTest, ResolveTakesTheBeginningOfAnIdThatMeansOneSet) {
  const auto a = Set("a", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  const std::string beginning = a->id().substr(0, 12);
  EXPECT_EQ(*registry_.Resolve(beginning), a);
  EXPECT_EQ(registry_.Resolve(beginning.substr(1)).status().code(),
            absl::StatusCode::kFailedPrecondition);
  // Batches name the whole id.
  EXPECT_EQ(registry_.Acquire(beginning).status().code(), absl::StatusCode::kFailedPrecondition);
  // Another one is named so.
  const auto b = Set(beginning, 64);
  ASSERT_TRUE(registry_.Publish(b).ok());
  const absl::Status status = registry_.Resolve(beginning).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("a " + a->id()));
  EXPECT_THAT(status.message(), HasSubstr(beginning + " " + b->id()));
  EXPECT_EQ(*registry_.Resolve(a->id().substr(0, 13)), a);
  ASSERT_TRUE(registry_.Retire(b->id()).ok());
  EXPECT_EQ(*registry_.Resolve(beginning), a);
  ASSERT_TRUE(registry_.Supersede(a->id()).ok());
  EXPECT_EQ(*registry_.Resolve(beginning), a);
  ASSERT_TRUE(registry_.Fence(a->id()).ok());
  EXPECT_EQ(registry_.Resolve(beginning).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTest, ANameMeansItsNewestSet) {
  const auto older = Set("a", 64);
  const auto newer = Set("a", 128);
  ASSERT_TRUE(registry_.Publish(older).ok());
  ASSERT_TRUE(registry_.Publish(newer).ok());
  EXPECT_EQ(*registry_.Resolve("a"), newer);
  EXPECT_EQ(*registry_.Acquire(older->id()), older);
  EXPECT_EQ(*registry_.Resolve(""), newer);
  EXPECT_EQ(registry_.List().size(), 1u);
  EXPECT_EQ(registry_.States().size(), 2u);
}

TEST_F(StoreTest, ASupersededSetIsFoundByItsIdAloneAndMayBeTakenBack) {
  const auto older = Set("a", 64);
  const auto newer = Set("a", 128);
  ASSERT_TRUE(registry_.Publish(older).ok());
  const ServedSet held = *registry_.ResolveServed("a");
  const uint64_t version = registry_.version();
  ASSERT_TRUE(registry_.Publish(newer).ok());
  EXPECT_NE(registry_.version(), version);
  EXPECT_EQ(held.control->Read().state, TableSetState::kSuperseded);
  ASSERT_TRUE(registry_.TakeBack(older->id()).ok());
  EXPECT_EQ(held.control->Read().state, TableSetState::kServing);
  EXPECT_EQ(*registry_.Resolve("a"), older);
  EXPECT_EQ(registry_.TakeBack(older->id()).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(registry_.RetireSuperseded(older->id()).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(registry_.RetireSuperseded(newer->id()).ok());
  EXPECT_EQ(registry_.Supersede(newer->id()).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(registry_.Supersede(older->id()).ok());
  EXPECT_EQ(registry_.Resolve("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(registry_.Acquire(older->id()).ok());
}

TEST_F(StoreTest, StatesAreDatedByTheClock) {
  const auto a = Set("a", 64);
  const MonotonicTime start = clock_.Now();
  ASSERT_TRUE(registry_.Publish(a).ok());
  EXPECT_EQ(registry_.States()[0].since, start);
  EXPECT_FALSE(registry_.States()[0].was_acquired);
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(registry_.Acquire(a->id()).ok());
  EXPECT_EQ(registry_.States()[0].acquired, start + absl::Seconds(10));
  EXPECT_EQ(registry_.States()[0].since, start);
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(registry_.Supersede(a->id()).ok());
  EXPECT_EQ(registry_.States()[0].since, start + absl::Seconds(20));
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(registry_.TakeBack(a->id()).ok());
  EXPECT_EQ(registry_.States()[0].since, start + absl::Seconds(30));
  EXPECT_EQ(registry_.States()[0].acquired, start + absl::Seconds(10));
}

TEST_F(StoreTest, LeasesAreCountedByTheirKind) {
  ASSERT_TRUE(registry_.Publish(Set("a", 64)).ok());
  const ServedSet served = *registry_.ResolveServed("a");
  Lease mapped(served.leases, LeaseKind::kMapped);
  {
    const Lease ring(served.leases, LeaseKind::kRing);
    EXPECT_EQ(served.leases->Total(), 2u);
  }
  Lease moved = std::move(mapped);
  EXPECT_EQ(served.leases->of(LeaseKind::kMapped), 1u);
  EXPECT_EQ(served.leases->of(LeaseKind::kRing), 0u);
  moved = Lease();
  EXPECT_EQ(served.leases->Total(), 0u);
}

TEST_F(StoreTest, PublishesASetOnce) {
  const auto a = Set("a", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  const absl::Status status = registry_.Publish(a);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(status.message(), HasSubstr(a->id()));
  EXPECT_EQ(registry_.List().size(), 1u);
}

TEST_F(StoreTest, ARetiredSetLivesUntilItsLastHolderLetsGo) {
  auto a = Set("a", 64);
  const std::string id = a->id();
  const std::weak_ptr<const TableSet> watch = a;
  ASSERT_TRUE(registry_.Publish(std::move(a)).ok());
  auto batch = *registry_.Acquire(id);
  ASSERT_TRUE(registry_.Retire(id).ok());
  EXPECT_EQ(registry_.Acquire(id).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(registry_.Retire(id).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(IsSyntheticRow(1, 9, {batch->FindLayer(1)->table.base + size_t{9} * 64, 64}));
  batch.reset();
  EXPECT_TRUE(watch.expired());
}

TEST_F(StoreTest, AFencedSetIsDataLossUntilItIsPublishedAgain) {
  const auto a = Set("a", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  const ServedSet held = *registry_.ResolveServed("a");
  ASSERT_TRUE(registry_.Fence(a->id()).ok());
  EXPECT_EQ(registry_.Acquire(a->id()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(registry_.Resolve(a->id()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(registry_.Fence(a->id()).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(held.control->Read().state, TableSetState::kFenced);
  EXPECT_THAT(registry_.ResolveServed("").status().message(),
              AllOf(HasSubstr("none is served: what was is fenced"),
                    HasSubstr("or another set of its name")));
  ASSERT_TRUE(registry_.Publish(a).ok());
  EXPECT_TRUE(registry_.Acquire(a->id()).ok());
  EXPECT_EQ(registry_.ResolveServed("a")->control->Read().state, TableSetState::kServing);
  EXPECT_EQ(held.control->Read().state, TableSetState::kFenced);
}

TEST_F(StoreTest, AMissedNameIsDataLossAndStillANameAmongOthers) {
  const auto a = Set("a", 64), b = Set("b", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  ASSERT_TRUE(registry_.Publish(b).ok());
  ASSERT_TRUE(registry_.Fence(a->id()).ok());
  EXPECT_EQ(registry_.Resolve("a").status().code(), absl::StatusCode::kDataLoss);
  // Who named none was told to name one before, and does not get the other's rows now.
  const absl::Status unnamed = registry_.Resolve("").status();
  EXPECT_EQ(unnamed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(unnamed.message(), AllOf(HasSubstr("name one of the table sets; served: b "),
                                       HasSubstr("fenced, for its memory was damaged: a")));
  EXPECT_EQ(*registry_.Resolve("b"), b);
  // Who may not have it has but one to choose, and is told nothing of it.
  const auto b_alone = [](absl::string_view name) {
    return name == "b" ? absl::OkStatus() : absl::PermissionDeniedError(absl::StrCat("not ", name));
  };
  EXPECT_EQ(*registry_.Resolve("", b_alone), b);
  EXPECT_EQ(registry_.Resolve("a", b_alone).status().message(), "not a");
  // Its name leads to another set: nobody misses it.
  const auto newer = Set("a", 128);
  ASSERT_TRUE(registry_.Publish(newer).ok());
  EXPECT_EQ(*registry_.Resolve("a"), newer);
  ASSERT_TRUE(registry_.Supersede(newer->id()).ok());
  EXPECT_EQ(registry_.Resolve("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*registry_.Resolve(""), b);
}

TEST_F(StoreTest, AFencedSetIsMissedUntilItsNameLeadsToAnother) {
  const auto older = Set("a", 64), newer = Set("a", 128), other = Set("b", 64);
  for (const auto& set : {older, newer, other}) ASSERT_TRUE(registry_.Publish(set).ok());
  ASSERT_TRUE(registry_.Fence(older->id()).ok());
  ASSERT_EQ(registry_.Fenced().size(), 1u);
  EXPECT_EQ(registry_.Fenced()[0].name, "a");
  EXPECT_EQ(registry_.Fenced()[0].directory, older->directory());
  EXPECT_FALSE(registry_.Fenced()[0].missed) << "its name leads to the newer one";
  const auto missed = [&] {
    std::vector<std::string> ids;
    for (const FencedSet& set : registry_.Fenced()) {
      if (set.missed) ids.push_back(set.id);
    }
    return ids;
  };
  ASSERT_TRUE(registry_.Fence(newer->id()).ok());
  EXPECT_THAT(missed(), ElementsAre(newer->id()));
  const auto newest = Set("a", 192);
  ASSERT_TRUE(registry_.Publish(newest).ok());
  EXPECT_THAT(missed(), IsEmpty());
  EXPECT_EQ(registry_.Acquire(newer->id()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(registry_.Acquire(older->id()).status().code(), absl::StatusCode::kDataLoss);
  // A set that is taken back heals its name as well.
  const auto last = Set("a", 256);
  ASSERT_TRUE(registry_.Publish(last).ok());
  ASSERT_TRUE(registry_.Fence(last->id()).ok());
  EXPECT_THAT(missed(), ElementsAre(last->id()));
  ASSERT_TRUE(registry_.TakeBack(newest->id()).ok());
  EXPECT_THAT(missed(), IsEmpty());
  // Nor is one missed whose name was taken away before.
  ASSERT_TRUE(registry_.Supersede(other->id()).ok());
  ASSERT_TRUE(registry_.Fence(other->id()).ok());
  EXPECT_THAT(missed(), IsEmpty());
}

// While one is fenced again and again whoever lists them finds it once.
TEST_F(StoreTest, ASetIsEitherServedOrFenced) {
  const auto a = Set("a", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) {
      EXPECT_TRUE(registry_.Fence(a->id()).ok());
      EXPECT_TRUE(registry_.Publish(a).ok());
    }
  });
  for (int i = 0; i < 1000; ++i) {
    const TableSetRegistry::All all = registry_.Everything();
    EXPECT_EQ(all.served.size() + all.fenced.size(), 1u);
  }
  other.join();
}

TEST_F(StoreTest, AFencedSetThatIsForgottenIsMissedNoMore) {
  const auto a = Set("a", 64), b = Set("b", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  ASSERT_TRUE(registry_.Publish(b).ok());
  EXPECT_EQ(registry_.FindFenced("a").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(registry_.Fence(a->id()).ok());
  for (const std::string& word : {std::string("a"), a->id(), a->id().substr(0, 12)}) {
    EXPECT_EQ(registry_.FindFenced(word)->id, a->id()) << word;
  }
  EXPECT_EQ(registry_.FindFenced("b").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(registry_.ForgetFenced(b->id()).code(), absl::StatusCode::kNotFound);
  const uint64_t version = registry_.version();
  ASSERT_TRUE(registry_.ForgetFenced(a->id()).ok());
  EXPECT_NE(registry_.version(), version);
  EXPECT_THAT(registry_.Fenced(), IsEmpty());
  EXPECT_EQ(registry_.Resolve("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(registry_.Acquire(a->id()).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*registry_.Resolve(""), b);
}

TEST_F(StoreTest, RetiringShowsOnTheControlPage) {
  const auto a = Set("a", 64);
  ASSERT_TRUE(registry_.Publish(a).ok());
  const ServedSet held = *registry_.ResolveServed("");
  EXPECT_EQ(held.control->Read().state, TableSetState::kServing);
  ASSERT_TRUE(registry_.Retire(a->id()).ok());
  EXPECT_EQ(held.control->Read().state, TableSetState::kRetiring);
  EXPECT_EQ(held.control->Read().epoch, 1u);
}

// Readers take and use sets while they are published and retired under them.
TEST_F(StoreTest, ReadersAndPublishersAtOnce) {
  const auto a = Set("a", 64);
  const auto b = Set("a", 128);
  ASSERT_TRUE(registry_.Publish(a).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<int> read{0};
  std::vector<std::thread> readers;
  readers.reserve(4);
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!stop.load()) {
        const auto set = registry_.Resolve("a");
        if (!set.ok()) {  // one of both is always there
          wrong.fetch_add(1);
          continue;
        }
        const GatherTable& table = (*set)->FindLayer(1)->table;
        if (!IsSyntheticRow(1, 4999,
                            {table.base + size_t{4999} * table.row_bytes, table.row_bytes})) {
          wrong.fetch_add(1);
        }
        read.fetch_add(1);
      }
    });
  }
  for (int round = 0; round < 200 || read.load() < 100; ++round) {
    ASSERT_TRUE(registry_.Publish(b).ok());
    ASSERT_TRUE(registry_.Retire(a->id()).ok());
    ASSERT_TRUE(registry_.Publish(a).ok());
    ASSERT_TRUE(registry_.Retire(b->id()).ok());
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong.load(), 0);
}

// Whoever asks chooses the text.
TEST_F(StoreTest, MessagesShowNoMoreThanAPartOfWhatWasAskedFor) {
  const std::string asked = "\x1b[2J" + std::string(1 << 20, 'x');
  for (const absl::Status& status : {registry_.Acquire(asked).status(),
                                     registry_.Resolve(asked).status(), registry_.Retire(asked)}) {
    EXPECT_LT(status.message().size(), 1000u);
    EXPECT_FALSE(absl::StrContains(status.message(), '\x1b'));
  }
}

}  // namespace
}  // namespace engram
