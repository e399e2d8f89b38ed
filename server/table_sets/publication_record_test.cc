#include "server/table_sets/publication_record.h"

#include <spdlog/sinks/ostream_sink.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/manifest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PublicationRecordTest : public ::testing::Test {
 protected:
  PublicationRecordTest()
      : root_(absl::StrCat(::testing::TempDir(), "/publication_record_",
                           ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(root_);
  }
  ~PublicationRecordTest() override { std::filesystem::remove_all(root_); }
  std::string Path(const std::string& name) const { return absl::StrCat(root_, "/", name); }
  std::unique_ptr<PublicationRecord> Open() const {
    auto record = PublicationRecord::Open(root_);
    EXPECT_TRUE(record.ok()) << record.status();
    return *std::move(record);
  }
  absl::Status OpenStatus(const std::string& text) const {
    std::ofstream(Path(PublicationRecord::kFile)) << text;
    return PublicationRecord::Open(root_).status();
  }
  // The id of a set of that name, written to that directory.
  std::string WriteSet(const std::string& name, const std::string& directory, uint64_t rows) {
    const auto manifest = testing::WriteSmallTableSet(
        {.name = name, .layers = {{.layer = 1, .row_bytes = 264, .rows = rows}}}, Path(directory));
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return manifest.ok() ? manifest->id : "";
  }
  absl::StatusOr<std::vector<std::string>> With(const std::vector<std::string>& flags) {
    return WithPublications(flags, Open()->List(), &log_);
  }

  const std::string root_;
  const std::string id_ = std::string(64, 'a'), other_ = std::string(64, 'b');
  std::ostringstream text_;
  spdlog::logger log_{"test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)};
};

TEST_F(PublicationRecordTest, KeepsTheLastOfAName) {
  {
    const auto record = Open();
    EXPECT_THAT(record->List(), IsEmpty());
    EXPECT_TRUE(record->Publish("x", id_, "/tables/1", 1).ok());
    EXPECT_TRUE(record->Publish("x", other_, "/tables/2", 2).ok());
    EXPECT_TRUE(record->Publish("x", other_, "/tables/3", 2).ok());  // the same set, elsewhere
    EXPECT_TRUE(record->Publish("y \"\n", id_, "/tables/4", 1).ok());
  }
  EXPECT_THAT(Open()->List(), ElementsAre(Publication{"x", other_, "/tables/3", 2},
                                          Publication{"y \"\n", id_, "/tables/4", 1}));
}

TEST_F(PublicationRecordTest, AGenerationStaysWhenTheNameWasTaken) {
  ASSERT_TRUE(Open()->Publish("x", id_, "/1", 7).ok());
  EXPECT_TRUE(Open()->Retire("x").ok());
  EXPECT_TRUE(Open()->Retire("nobody").ok());
  EXPECT_THAT(Open()->List(), IsEmpty());
  EXPECT_THAT(Open()->All(), ElementsAre(Publication{"x", "", "", 7}));
}

TEST_F(PublicationRecordTest, NamesAreBoundedAndWhatIsKeptStays) {
  std::string text = "{\"version\": 1, \"publications\": [";
  for (size_t i = 0; i < PublicationRecord::kMostNames; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",", "{\"name\": \"", i, "\", \"generation\": 1}");
  }
  ASSERT_TRUE(OpenStatus(text + "]}").ok());
  EXPECT_EQ(Open()->Publish("x", id_, "/1", 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Open()->Publish("7", id_, "/1", 2).ok());
  EXPECT_EQ(OpenStatus(text + ",{\"name\": \"x\", \"generation\": 1}]}").code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(PublicationRecordTest, WhatIsNoRecordIsNamedWithItsCure) {
  const std::string good = absl::StrCat(
      "{\"name\": \"x\", \"generation\": 1, \"directory\": ", "\"/1\", \"id\": \"", id_, "\"}");
  const auto whole = [](const std::string& list) {
    return absl::StrCat("{\"version\": 1, \"publications\": [", list, "]}");
  };
  ASSERT_TRUE(OpenStatus(whole(good)).ok());
  const std::string bad[] = {
      "",
      "[]",
      "{",
      "{}",
      "{\"version\": \"1\", \"publications\": []}",
      whole(good + "," + good),
      whole("7"),
      whole("{\"name\": \"x\"}"),
      whole("{\"name\": \"\", \"generation\": 1}"),
      whole("{\"name\": \"x\", \"generation\": -1}"),
      whole("{\"name\": \"x\", \"generation\": 18446744073709551615}"),
      whole(absl::StrCat("{\"name\": \"x\", \"generation\": ", kMostGeneration + 1, "}")),
      whole("{\"name\": \"x\", \"generation\": 1, \"id\": \"" + id_ + "\"}"),
      whole("{\"name\": \"x\", \"generation\": 1, \"directory\": \"/1\", \"id\": \"A\"}"),
      std::string(100'000, '['),
  };
  for (const std::string& text : bad) {
    const absl::Status status = OpenStatus(text);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(PublicationRecord::kFile), HasSubstr("--ignore-recorded")));
  }
  const absl::Status newer = OpenStatus("{\"version\": 2}");
  EXPECT_EQ(newer.code(), absl::StatusCode::kFailedPrecondition) << newer;
  EXPECT_THAT(std::string(newer.message()), HasSubstr("of a newer engramd"));
  // Ignored, it is replaced by the next publication.
  EXPECT_TRUE(PublicationRecord::OpenIgnoring(root_)->Publish("x", id_, "/1", 1).ok());
  EXPECT_EQ(Open()->List().size(), 1u);
}

TEST_F(PublicationRecordTest, WhatIsIgnoredStaysUntilTheNextPublication) {
  ASSERT_TRUE(Open()->Publish("x", id_, "/1", 1).ok());
  const auto ignoring = PublicationRecord::OpenIgnoring(root_);
  EXPECT_THAT(ignoring->List(), IsEmpty());
  EXPECT_EQ(Open()->List().size(), 1u);
  EXPECT_THAT(ignoring->All(), ElementsAre(Publication{"x", "", "", 1}));
  EXPECT_TRUE(ignoring->Publish("x", other_, "/2", 2).ok());
  EXPECT_THAT(Open()->List(), ElementsAre(Publication{"x", other_, "/2", 2}));
}

TEST_F(PublicationRecordTest, WhatCannotBeWrittenChangesNothing) {
  const auto record = PublicationRecord::OpenIgnoring(Path("nowhere"));
  EXPECT_FALSE(record->Publish("x", id_, "/1", 1).ok());
  EXPECT_THAT(record->List(), IsEmpty());
}

TEST_F(PublicationRecordTest, APublicationIsServedInPlaceOfTheFlagOfItsName) {
  const std::string old_id = WriteSet("x", "old", 5000), new_id = WriteSet("x", "new", 6000);
  const std::string more_id = WriteSet("more", "more", 5000);
  WriteSet("z", "z", 5000);
  ASSERT_TRUE(Open()->Publish("x", new_id, Path("new"), 1).ok());
  ASSERT_TRUE(Open()->Publish("more", more_id, Path("more"), 1).ok());
  const auto with = With({Path("z"), Path("old"), Path("none")});
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_THAT(*with, ElementsAre(Path("z"), Path("new"), Path("none"), Path("more")));
  EXPECT_THAT(text_.str(), AllOf(HasSubstr(old_id), HasSubstr(new_id), HasSubstr(more_id),
                                 HasSubstr("--ignore-recorded")));
}

TEST_F(PublicationRecordTest, TheSameSetIsServedFromWhereTheFlagsSay) {
  const std::string id = WriteSet("x", "here", 5000);
  ASSERT_TRUE(Open()->Publish("x", id, Path("gone"), 1).ok());
  EXPECT_THAT(With({Path("here")}).value(), ElementsAre(Path("here")));
}

TEST_F(PublicationRecordTest, ASetThatIsGoneOrAnotherIsAnErrorWithItsCure) {
  WriteSet("x", "old", 5000);
  const std::string id = WriteSet("x", "new", 6000);
  ASSERT_TRUE(Open()->Publish("x", id, Path("new"), 1).ok());
  const std::string now = WriteSet("x", "new", 7000);
  const absl::Status another = With({Path("old")}).status();
  EXPECT_EQ(another.code(), absl::StatusCode::kFailedPrecondition) << another;
  EXPECT_THAT(std::string(another.message()),
              AllOf(HasSubstr(id), HasSubstr(now), HasSubstr("--ignore-recorded")));
  std::filesystem::remove_all(Path("new"));
  const absl::Status gone = With({Path("old")}).status();
  EXPECT_FALSE(gone.ok());
  EXPECT_THAT(std::string(gone.message()),
              AllOf(HasSubstr(Path("new")), HasSubstr("put the set back there")));
}

}  // namespace
}  // namespace engram
