// That the manager records what operators publish, and nothing else.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

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
