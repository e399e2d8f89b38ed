// That the manager records what operators publish, and nothing else.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/table_sets/publication_record.h"
#include "server/table_sets/table_set_manager.h"
#include "server/table_sets/testing/manager_fixture.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class KeptPublicationsTest : public testing::ManagerFixture {
 protected:
  void Start() {
    TableSetManager::Options options;
    options.record = record_.get();
    StartManager(std::move(options));
  }

  std::unique_ptr<PublicationRecord> record_;
};

TEST_F(KeptPublicationsTest, WhatOperatorsPublishIsRecordedUntilTheNameIsTaken) {
  std::filesystem::create_directories(Directory("state"));
  record_ = PublicationRecord::Open(Directory("state")).value();
  Start();
  ASSERT_TRUE(manager_->Publish(Directory("a"), nullptr, nullptr).ok());  // as the flags say
  EXPECT_THAT(record_->List(), IsEmpty());
  const auto keep = [&](const std::string& name) {
    const auto published = manager_->Publish(Directory(name), nullptr, nullptr, Keep::kYes);
    EXPECT_TRUE(published.ok()) << published.status();
    return published.ok() ? published->set->id() : "";
  };
  const std::string b = keep("b");
  EXPECT_THAT(record_->List(), ElementsAre(Publication{"first", b, Directory("b"), 1}));
  const std::string a = keep("a");  // which is taken back
  keep("a");                        // and is served already
  EXPECT_THAT(record_->List(), ElementsAre(Publication{"first", a, Directory("a"), 2}));
  const std::string other = keep("other");
  ASSERT_TRUE(manager_->Supersede("first").ok());
  EXPECT_THAT(record_->List(), ElementsAre(Publication{"second", other, Directory("other"), 1}));
}

TEST_F(KeptPublicationsTest, ACopyOfWhatIsServedIsRecordedWhereTheOriginalIsGone) {
  std::filesystem::create_directories(Directory("state"));
  record_ = PublicationRecord::Open(Directory("state")).value();
  Start();
  const auto publish = [&](const std::string& name) {
    return manager_->Publish(Directory(name), nullptr, nullptr, Keep::kYes);
  };
  const auto recorded = [&] { return record_->List().at(0).directory; };
  ASSERT_TRUE(publish("b").ok());
  std::filesystem::copy(Directory("b"), Directory("copy"),
                        std::filesystem::copy_options::recursive);
  EXPECT_THAT(publish("copy")->warning, HasSubstr("no row of " + Directory("copy") + " was read"));
  EXPECT_EQ(recorded(), Directory("b"));
  std::filesystem::path shard;
  for (const auto& file : std::filesystem::directory_iterator(Directory("copy"))) {
    if (file.path().extension() == ".rows") shard = file.path();
  }
  std::filesystem::rename(shard, Directory("shard"));
  const absl::Status broken = publish("copy").status();
  EXPECT_EQ(broken.code(), absl::StatusCode::kNotFound) << broken;
  EXPECT_THAT(std::string(broken.message()), HasSubstr(shard.filename().string()));
  EXPECT_EQ(recorded(), Directory("b"));
  std::filesystem::rename(Directory("shard"), shard);
  std::filesystem::remove_all(Directory("b"));
  ASSERT_TRUE(publish("copy").ok());
  EXPECT_EQ(recorded(), Directory("copy"));
}

TEST_F(KeptPublicationsTest, GenerationsOrderWhatIsPublished) {
  std::filesystem::create_directories(Directory("state"));
  record_ = PublicationRecord::Open(Directory("state")).value();
  Start();
  const auto publish = [&](const std::string& name, std::optional<uint64_t> generation) {
    return manager_->Publish(Directory(name), nullptr, nullptr, Keep::kYes, generation);
  };
  const auto started = manager_->Publish(Directory("a"), nullptr, nullptr);
  ASSERT_TRUE(started.ok()) << started.status();
  const std::string a = started->set->id();
  EXPECT_EQ(manager_->generations().Of(a), 0u);
  const auto b = publish("b", 7);
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(b->generation, 7u);
  // Two sets at one generation, and one that is lower: nothing moves.
  for (const uint64_t no : {7, 6, 0}) {
    EXPECT_THAT(std::string(publish("a", no).status().message()), HasSubstr("generation"));
  }
  EXPECT_EQ(registry_.List().front()->id(), b->set->id());
  EXPECT_EQ(publish("a", std::nullopt)->generation, 8u);  // taken back
  EXPECT_EQ(publish("a", 9)->generation, 9u);             // the same set, raised
  EXPECT_THAT(record_->List(), ElementsAre(Publication{"first", a, Directory("a"), 9}));
  std::vector<std::optional<uint64_t>> listed;
  for (const TableSetStatus& set : manager_->List()) listed.push_back(set.generation);
  EXPECT_THAT(listed, ElementsAre(9u, 7u));
}

TEST_F(KeptPublicationsTest, ARestartGoesOnWhereItWas) {
  std::filesystem::create_directories(Directory("state"));
  record_ = PublicationRecord::Open(Directory("state")).value();
  Start();
  const auto b = manager_->Publish(Directory("b"), nullptr, nullptr, Keep::kYes, 7);
  ASSERT_TRUE(b.ok()) << b.status();
  const std::string id = b->set->id();
  manager_.reset();
  ASSERT_TRUE(registry_.Retire(id).ok());
  record_ = PublicationRecord::Open(Directory("state")).value();
  Start();
  ASSERT_TRUE(manager_->Publish(Directory("b"), nullptr, nullptr).ok());  // as it was kept
  EXPECT_EQ(manager_->generations().Of(id), 7u);
  const auto a = manager_->Publish(Directory("a"), nullptr, nullptr, Keep::kYes);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->generation, 8u);
  // Where nothing is kept numbers grow as well.
  manager_.reset();
  record_.reset();
  Start();
  EXPECT_EQ(manager_->Publish(Directory("other"), nullptr, nullptr, Keep::kYes)->generation, 1u);
}

TEST_F(KeptPublicationsTest, WhatCannotBeRecordedIsServedAndSaid) {
  record_ = PublicationRecord::OpenIgnoring(Directory("nowhere"));
  Start();
  const auto published = manager_->Publish(Directory("a"), nullptr, nullptr, Keep::kYes);
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_THAT(published->warning, AllOf(HasSubstr("a restart will serve what it would have"),
                                        HasSubstr(Directory("nowhere"))));
}

}  // namespace
}  // namespace engram
