#include "server/table_sets/table_set_manager.h"

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/os/posix_file.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"
#include "server/base/limits.h"
#include "server/table_sets/testing/manager_fixture.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using testing::kRetireGrace;

class TableSetManagerTest : public testing::ManagerFixture {
 protected:
  // Side files of the set in `name`, which say that it is of that repository.
  void WriteSides(const std::string& name, const std::string& repository,
                  const std::string& side_directory) {
    const absl::StatusOr<Manifest> manifest = LoadManifest(Directory(name));
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    const absl::Status written =
        testing::WriteSmallSideFiles(*manifest, repository, Directory(name), side_directory);
    ASSERT_TRUE(written.ok()) << written;
  }
  std::string Warning(const std::string& name) {
    const auto published = manager_->Publish(Directory(name), nullptr, nullptr);
    EXPECT_TRUE(published.ok()) << published.status();
    return published.ok() ? published->warning : "";
  }
  // The repository that the set is of that the name leads to.
  std::string ServedSource(const std::string& name) const {
    for (const TableSetStatus& set : manager_->List()) {
      if (set.name != name || set.state != TableSetState::kServing) continue;
      return set.provenance ? set.provenance->repository : "not known";
    }
    return "not served";
  }
  void Start(uint64_t memory_limit_bytes = 0) {
    TableSetManager::Options options;
    options.memory_limit_bytes = memory_limit_bytes;
    options.state_directory = Directory("state");
    options.on_publish = [this](const ServedSet& served) {
      published_.push_back(served.set->id());
      return publish_status_;
    };
    options.on_retire = [this](const std::string& id) {
      MutexLock lock(mutex_);
      retired_.push_back(id);
    };
    StartManager(std::move(options));
  }
  absl::Status Publish(const std::string& name) {
    return manager_->Publish(Directory(name), nullptr, nullptr).status();
  }
  // Its id; empty, and a failure of the test, where it cannot be published.
  std::string PublishId(const std::string& name) {
    const auto published = manager_->Publish(Directory(name), nullptr, nullptr);
    EXPECT_TRUE(published.ok()) << published.status();
    return published.ok() ? published->set->id() : "";
  }
  std::vector<std::string> Retired() {
    MutexLock lock(mutex_);
    return retired_;
  }
  // "NAME STATE" of each.
  std::vector<std::string> States() const {
    std::vector<std::string> states;
    for (const TableSetStatus& set : manager_->List()) {
      states.push_back(absl::StrCat(set.name, " ", Name(set.state)));
    }
    return states;
  }
  Lease Hold(const std::string& id, LeaseKind kind) const {
    return Lease(registry_.ResolveServed(id)->leases, kind);
  }

  absl::Status publish_status_;
  std::vector<std::string> published_;
  Mutex mutex_;
  std::vector<std::string> retired_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(TableSetManagerTest, TellsOnWhichPagesASetLies) {
  Start();
  ASSERT_TRUE(Publish("a").ok());
  for (const bool anew : {false, true}) {
    if (anew) manager_->RefreshPages();
    const auto sets = manager_->List();
    ASSERT_THAT(sets, SizeIs(1));
    EXPECT_GE(sets[0].pages.Total(), 5000u * 264);
    EXPECT_LE(sets[0].pages.Total(), sets[0].resident_bytes);
  }
}

TEST_F(TableSetManagerTest, AnUnusedSetGoesWhenAnotherTakesItsName) {
  Start();
  const std::string a = PublishId("a");
  EXPECT_THAT(States(), ElementsAre("first serving"));
  const std::string b = PublishId("b");
  EXPECT_EQ((*registry_.Resolve("first"))->id(), b);
  Advance(absl::Seconds(1));
  EXPECT_THAT(States(), ElementsAre("first serving"));
  EXPECT_THAT(Retired(), ElementsAre(a));
  EXPECT_EQ(registry_.Acquire(a).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(registry_.Acquire(b).ok());
}

TEST_F(TableSetManagerTest, ALeaseKeepsASupersededSetUntilItEnds) {
  Start();
  const std::string a = PublishId("a");
  Lease lease = Hold(a, LeaseKind::kRing);
  PublishId("b");
  Advance(absl::FromChrono(kRetireGrace) / 2);
  ASSERT_THAT(States(), ElementsAre("first superseded", "first serving"));
  const TableSetStatus held = manager_->List().front();
  EXPECT_EQ(held.id, a);
  EXPECT_EQ(held.leases[static_cast<size_t>(LeaseKind::kRing)], 1u);
  EXPECT_EQ(held.age, kRetireGrace / 2);
  EXPECT_THAT(manager_->Held(), SizeIs(2));
  lease = Lease();
  Advance(absl::Seconds(1));
  EXPECT_THAT(States(), ElementsAre("first serving"));
}

// Its clients are refused then; the memory is there for as long as one of them maps it.
TEST_F(TableSetManagerTest, AfterTheGraceASetIsRetiredThoughItIsHeld) {
  Start();
  const std::string a = PublishId("a");
  const Lease lease = Hold(a, LeaseKind::kMapped);
  ServedSet mapped = *registry_.ResolveServed(a);
  PublishId("b");
  EXPECT_EQ(mapped.control->Read().state, TableSetState::kSuperseded);
  Advance(absl::FromChrono(kRetireGrace) - absl::Seconds(1));
  ASSERT_THAT(States(), ElementsAre("first superseded", "first serving"));
  Advance(absl::Seconds(1));
  ASSERT_THAT(States(), ElementsAre("first serving", "first retired"));
  EXPECT_EQ(manager_->List().back().leases[static_cast<size_t>(LeaseKind::kMapped)], 1u);
  EXPECT_EQ(mapped.control->Read().state, TableSetState::kRetiring);
  EXPECT_EQ(registry_.Acquire(a).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Retired(), ElementsAre(a));
  mapped = ServedSet();
  Advance(absl::Seconds(1));
  EXPECT_THAT(States(), ElementsAre("first serving"));
}

// gRPC's clients have no lease but what they asked last.
TEST_F(TableSetManagerTest, ASetThatWasAskedForStaysForTheLeaseOfGrpc) {
  Start();
  const std::string a = PublishId("a");
  ASSERT_TRUE(registry_.Acquire(a).ok());
  PublishId("b");
  Advance(absl::FromChrono(kGrpcLease) / 2);
  ASSERT_THAT(States(), ElementsAre("first superseded", "first serving"));
  ASSERT_TRUE(manager_->List().front().idle.has_value());
  EXPECT_EQ(*manager_->List().front().idle, kGrpcLease / 2);
  Advance(absl::FromChrono(kGrpcLease) / 2);
  EXPECT_THAT(States(), ElementsAre("first serving"));
}

TEST_F(TableSetManagerTest, ASupersededSetIsTakenBackWithoutALoad) {
  Start();
  const std::string a = PublishId("a");
  const Lease a_lease = Hold(a, LeaseKind::kRdmaWrite);
  const std::string b = PublishId("b");
  const Lease b_lease = Hold(b, LeaseKind::kRdmaWrite);
  EXPECT_EQ(PublishId("a"), a);
  EXPECT_THAT(published_, ElementsAre(a, b));
  EXPECT_EQ((*registry_.Resolve("first"))->id(), a);
  // Neither goes for what it was before.
  Advance(absl::FromChrono(kRetireGrace) / 2);
  EXPECT_THAT(States(), ElementsAre("first serving", "first superseded"));
  EXPECT_THAT(Retired(), IsEmpty());
}

TEST_F(TableSetManagerTest, OneIsPublishedAtATime) {
  Start();
  Mutex mutex;
  CondVar changed;
  bool loads = false;
  bool go_on = false;
  std::thread first([&] {
    const auto set = manager_->Publish(
        Directory("a"),
        [&](const LoadProgress&) {
          MutexLock lock(mutex);
          loads = true;
          changed.NotifyAll();
          while (!go_on) changed.Wait(mutex);
        },
        nullptr);
    EXPECT_TRUE(set.ok()) << set.status();
  });
  {
    MutexLock lock(mutex);
    while (!loads) changed.Wait(mutex);
  }
  const absl::Status second = Publish("other");
  EXPECT_EQ(second.code(), absl::StatusCode::kAborted) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr(Directory("a")));
  ASSERT_TRUE(manager_->loading().has_value());
  EXPECT_EQ(manager_->loading()->directory, Directory("a"));
  {
    MutexLock lock(mutex);
    go_on = true;
    changed.NotifyAll();
  }
  first.join();
  EXPECT_FALSE(manager_->loading().has_value());
  EXPECT_TRUE(Publish("other").ok());
}

TEST_F(TableSetManagerTest, AnotherSourceUnderANameIsAWarningThatSaysBoth) {
  WriteSides("a", "maker/model", Directory("a"));
  WriteSides("b", "other/model", Directory("b"));
  WriteSides("other", "third/model", Directory("other"));
  Start();
  EXPECT_EQ(Warning("a"), "");
  EXPECT_EQ(Warning("other"), "") << "it has a name of its own";
  const std::string b = Warning("b");
  EXPECT_THAT(b, HasSubstr("the name first led to rows of maker/model@r1 ("));
  EXPECT_THAT(b, HasSubstr("now leads to rows of other/model@r1 ("));
  EXPECT_THAT(b, HasSubstr(Directory("a")));
  // It is taken back without a load.
  EXPECT_THAT(Warning("a"), HasSubstr("led to rows of other/model@r1 ("));
  EXPECT_EQ(ServedSource("first"), "maker/model");
}

TEST_F(TableSetManagerTest, OneSourceOrNoneIsNoWarning) {
  WriteSides("a", "maker/model", Directory("a"));
  Start();
  EXPECT_EQ(Warning("a"), "");
  EXPECT_EQ(Warning("b"), "") << "where it is from is not known";
  EXPECT_EQ(Warning("a"), "");
  WriteSides("b", "maker/model", Directory("b"));
  Advance(absl::Seconds(1));  // the one that knew nothing goes
  EXPECT_EQ(Warning("b"), "");
}

TEST_F(TableSetManagerTest, AnotherShapeUnderANameIsAWarningThatSaysBoth) {
  const auto write = [&](const std::string& directory, const testing::SmallTableSet& set) {
    ASSERT_TRUE(testing::WriteSmallTableSet(set, Directory(directory)).ok());
  };
  write("wide", {.name = "first", .layers = {{.layer = 1, .row_bytes = 512, .rows = 5000}}});
  write("columns",
        {.name = "first", .layers = {{.layer = 1, .row_bytes = 512, .rows = 5000}}, .columns = 2});
  write("layers", {.name = "first",
                   .layers = {{.layer = 1, .row_bytes = 512, .rows = 5000},
                              {.layer = 7, .row_bytes = 512, .rows = 5000}},
                   .columns = 2});
  Start();
  EXPECT_EQ(Warning("a"), "");
  EXPECT_EQ(Warning("b"), "") << "more rows of the same shape";
  const std::string wide = Warning("wide");
  EXPECT_THAT(wide, HasSubstr("the name first led to table set "));
  EXPECT_THAT(wide, HasSubstr("a row of layer 1: 264 bytes, "));
  EXPECT_THAT(wide, HasSubstr(" before, 512 bytes, "));
  EXPECT_THAT(wide, HasSubstr(absl::StrCat("publish ", Directory("b"), " again")));
  EXPECT_THAT(Warning("columns"), HasSubstr("(columns: 1 before, 2 now)"));
  EXPECT_THAT(Warning("layers"), HasSubstr("(layers: 1 before, 1, 7 now)"));
}

TEST_F(TableSetManagerTest, OtherRowsOfAnotherSourceAreOneWarning) {
  ASSERT_TRUE(testing::WriteSmallTableSet(
                  {.name = "first", .layers = {{.layer = 1, .row_bytes = 512, .rows = 5000}}},
                  Directory("wide"))
                  .ok());
  WriteSides("a", "maker/model", Directory("a"));
  WriteSides("wide", "other/model", Directory("wide"));
  Start();
  EXPECT_EQ(Warning("a"), "");
  const std::string warning = Warning("wide");
  EXPECT_THAT(warning, HasSubstr("now leads to rows of other/model@r1 ("));
  EXPECT_THAT(warning, HasSubstr("of another shape (a row of layer 1: 264 bytes, "));
}

TEST_F(TableSetManagerTest, ASetIsNotTakenBackWithOtherImageTokenIds) {
  Start();
  PublishId("a");
  PublishId("b");
  const Manifest manifest = LoadManifest(Directory("a")).value();
  const std::string images = JoinPath(Directory("a"), kImageTokenIdsFile);
  ASSERT_TRUE(
      WriteSideFile(images, kImageTokenIdsKind, manifest.id, R"({"image_token_ids": [7]})").ok());
  const absl::Status other = Publish("a");
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition) << other;
  EXPECT_THAT(std::string(other.message()), HasSubstr("other image token ids"));
  std::ofstream(images) << "nothing";
  EXPECT_EQ(Publish("a").code(), absl::StatusCode::kDataLoss);
  std::filesystem::remove(images);
  EXPECT_TRUE(Publish("a").ok());
}

TEST_F(TableSetManagerTest, SideFilesOfTheStateDirectoryCount) {
  const std::string sides = JoinPath(Directory("state"), LoadManifest(Directory("a")).value().id);
  std::filesystem::create_directories(sides);
  WriteSides("a", "maker/model", sides);
  Start();
  EXPECT_TRUE(Publish("a").ok());
  EXPECT_EQ(ServedSource("first"), "maker/model");
  std::filesystem::create_directories(
      JoinPath(Directory("state"), LoadManifest(Directory("b")).value().id));
  const std::string damaged = JoinPath(
      JoinPath(Directory("state"), LoadManifest(Directory("b")).value().id), kProvenanceFile);
  std::ofstream(damaged) << "nothing";
  const absl::Status status = Publish("b");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(damaged));
  EXPECT_THAT(States(), ElementsAre("first serving"));
}

TEST_F(TableSetManagerTest, WhatIsServedAlreadyStaysAndThatIsSaid) {
  Start();
  const std::string a = PublishId("a");
  EXPECT_THAT(Warning("a"), AllOf(HasSubstr(a), HasSubstr("is served already")));
  EXPECT_TRUE(manager_->Publish(Directory("a"), nullptr, nullptr)->is_note);
  EXPECT_THAT(States(), ElementsAre("first serving"));
  EXPECT_THAT(published_, ElementsAre(a));  // nothing was loaded
}

TEST_F(TableSetManagerTest, AFailedLoadLeavesNothing) {
  Start();
  const std::string a = PublishId("a");
  const std::string shard = [&] {
    for (const auto& file : std::filesystem::recursive_directory_iterator(Directory("b"))) {
      if (file.is_regular_file() && file.file_size() > 100'000) return file.path().string();
    }
    return std::string();
  }();
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(50'000);
  file.put(static_cast<char>(file.peek() ^ 1));
  file.close();
  const absl::Status status = Publish("b");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(Directory("b")));
  EXPECT_THAT(published_, ElementsAre(a));
  EXPECT_THAT(States(), ElementsAre("first serving"));
  EXPECT_FALSE(manager_->loading().has_value());
  EXPECT_EQ((*registry_.Resolve("first"))->id(), a);
  EXPECT_EQ(Publish("nothing").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Publish("other").ok());
}

TEST_F(TableSetManagerTest, WhoMustKnowASetMayRefuseIt) {
  Start();
  publish_status_ = absl::ResourceExhaustedError("no room at the device");
  const absl::Status status = Publish("a");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no room at the device"));
  EXPECT_THAT(States(), IsEmpty());
  publish_status_ = absl::OkStatus();
  EXPECT_TRUE(Publish("a").ok());
}

TEST_F(TableSetManagerTest, ALoadIsCancelledByWhoAsked) {
  Start();
  const auto set = manager_->Publish(Directory("a"), nullptr, [] { return true; });
  EXPECT_EQ(set.status().code(), absl::StatusCode::kCancelled) << set.status();
  EXPECT_TRUE(Publish("a").ok());
  manager_->Cancel();
  EXPECT_EQ(Publish("other").code(), absl::StatusCode::kCancelled);
}

TEST_F(TableSetManagerTest, AMemoryLimitCountsWhatIsStillHereAndNamesIt) {
  Start(/*memory_limit_bytes=*/6'000 * 264 + 2'000'000);
  const std::string a = PublishId("a");
  const Lease lease = Hold(a, LeaseKind::kRdmaRead);
  const absl::Status status = Publish("b");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(a));
  EXPECT_THAT(std::string(status.message()), HasSubstr("serving"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("1 rdma-read"));
  EXPECT_THAT(States(), ElementsAre("first serving"));
}

TEST_F(TableSetManagerTest, SupersedingTakesTheNameAndNeverTheLastOne) {
  Start();
  const std::string a = PublishId("a");
  EXPECT_EQ(manager_->Supersede("none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager_->Supersede("").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager_->Supersede("first").status().code(), absl::StatusCode::kFailedPrecondition);
  PublishId("other");
  const Lease lease = Hold(a, LeaseKind::kRing);
  EXPECT_TRUE(manager_->Supersede("first").ok());
  EXPECT_THAT(States(), ElementsAre("first superseded", "second serving"));
  EXPECT_EQ(manager_->Supersede(a).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(registry_.Acquire(a).ok());
}

TEST_F(TableSetManagerTest, AFencedSetThatNobodyWantsIsDropped) {
  Start();
  const std::string a = PublishId("a");
  EXPECT_EQ(manager_->DropFenced("first").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(registry_.Fence(a).ok());
  EXPECT_EQ(manager_->DropFenced("first").status().code(), absl::StatusCode::kFailedPrecondition);
  PublishId("other");
  const absl::StatusOr<FencedSet> dropped = manager_->DropFenced("first");
  ASSERT_TRUE(dropped.ok()) << dropped.status();
  EXPECT_EQ(dropped->id, a);
  EXPECT_THAT(States(), ElementsAre("second serving"));
}

TEST_F(TableSetManagerTest, AFencedSetIsListedAndIsLoadedAnew) {
  Start();
  const std::string a = PublishId("a");
  PublishId("other");
  ASSERT_TRUE(registry_.Fence(a).ok());
  Advance(absl::Seconds(7));
  EXPECT_THAT(States(), ElementsAre("second serving", "first fenced"));
  const TableSetStatus fenced = manager_->List().back();
  EXPECT_EQ(fenced.id, a);
  EXPECT_EQ(fenced.directory, Directory("a"));
  EXPECT_EQ(fenced.age, std::chrono::seconds(7));
  EXPECT_EQ(PublishId("a"), a);
  EXPECT_THAT(States(), ElementsAre("second serving", "first serving"));
}

}  // namespace
}  // namespace engram
