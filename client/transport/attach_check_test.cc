#include "client/transport/attach_check.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/os/posix_file.h"
#include "memstore/store/testing/small_table_set.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kMaxMapBytes = 1 << 20;

// An owner that is asked for a small set with a token map, and may lie.
class AttachCheckTest : public ::testing::Test {
 protected:
  AttachCheckTest() {
    const std::string directory = ::testing::TempDir() + "/attach_check_test";
    manifest_ = testing::WriteSmallTableSet({.with_token_map = true}, directory).value();
    text_ = manifest_.text;
    id_ = manifest_.id;
    map_ = ReadWholeFile(directory + "/" + manifest_.scheme.token_map->file, kMaxMapBytes).value();
  }
  absl::StatusOr<AttachedTableSet> Check(absl::string_view asked) {
    return CheckAttached({.owner = "engramd at x",
                          .table_set_id = id_,
                          .manifest = text_,
                          .image_token_ids = images_,
                          .held = held_},
                         asked, [&]() -> absl::StatusOr<absl::string_view> {
                           ++maps_asked_;
                           return absl::string_view(map_);
                         });
  }
  void ExpectDataLoss(const std::string& what, absl::string_view asked = "") {
    const absl::Status status = Check(asked).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("engramd at x"), HasSubstr(what)));
  }

  Manifest manifest_;
  std::string text_, id_, map_;
  std::vector<HeldRanges> held_;
  std::vector<int32_t> images_;
  int maps_asked_ = 0;
};

TEST_F(AttachCheckTest, TakesWhatTheIdSaysByIdByNameOrUnasked) {
  for (const std::string& asked : {manifest_.id, manifest_.name, std::string()}) {
    const absl::StatusOr<AttachedTableSet> attached = Check(asked);
    ASSERT_TRUE(attached.ok()) << attached.status();
    EXPECT_EQ(attached->manifest.id, manifest_.id);
    ASSERT_NE(attached->token_map, nullptr);
  }
}

TEST_F(AttachCheckTest, ImageTokenIdsAreTakenAsFarAsASetHasThem) {
  EXPECT_TRUE(Check("")->image_token_ids.empty());
  images_ = {97, 98};
  EXPECT_EQ(Check("")->image_token_ids, images_);
  images_.assign(wire::kMostImageTokenIds, 5);
  EXPECT_TRUE(Check("").ok());
  images_.push_back(6);
  ExpectDataLoss("1025 image token ids");
}

TEST_F(AttachCheckTest, WhatAnOwnerHoldsIsTakenWhereItIsOfTheSet) {
  EXPECT_TRUE(Check("")->held.empty());
  held_ = {{.layer = 1, .ranges = {{0, 10}, {100, 4900}}}};  // of 5,000 rows
  const auto attached = Check("");
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_THAT(attached->held, ::testing::ElementsAre(HeldLayer{5000, {{0, 10}, {100, 4900}}}));
  held_ = {{.layer = 1, .ranges = {}}};
  EXPECT_EQ(Check("")->held.size(), 1u);
  held_ = {{.layer = 2, .ranges = {}}};
  ExpectDataLoss("layer 2");
  held_ = {{.layer = 1, .ranges = {}}, {.layer = 14, .ranges = {}}};
  ExpectDataLoss("2 layers");
  held_ = {{.layer = 1, .ranges = {{0, 5001}}}};
  ExpectDataLoss("5001");
  held_ = {{.layer = 1, .ranges = {{10, 10}, {0, 10}}}};
  ExpectDataLoss("ranges ascend");
}

TEST_F(AttachCheckTest, AManifestOfAnotherIdIsRefused) {
  text_ += "# more\n";
  ExpectDataLoss("said to be table set");
  EXPECT_EQ(maps_asked_, 0);
}

TEST_F(AttachCheckTest, AnIdOfAnotherManifestIsRefused) {
  id_ = std::string(64, '0');
  ExpectDataLoss(id_);
}

TEST_F(AttachCheckTest, WhatIsNoManifestIsRefused) {
  text_ = "nonsense {";
  ExpectDataLoss("the manifest");
}

TEST_F(AttachCheckTest, ASetThatWasNotAskedForIsRefused) {
  ExpectDataLoss("another", "another");
  ExpectDataLoss(manifest_.id, std::string(64, 'a'));
  EXPECT_EQ(maps_asked_, 0);
}

TEST_F(AttachCheckTest, AMapOfAnotherDigestIsRefused) {
  map_[0] = static_cast<char>(map_[0] ^ 1);
  ExpectDataLoss("the token map");
  map_[0] = static_cast<char>(map_[0] ^ 1);
  map_ += "x";
  ExpectDataLoss("the token map");
  map_.clear();
  ExpectDataLoss("the token map");
}

TEST_F(AttachCheckTest, AMapThatCannotBeReadIsItsOwnError) {
  const auto status =
      CheckAttached({.owner = "engramd at x", .table_set_id = id_, .manifest = text_}, "",
                    []() -> absl::StatusOr<absl::string_view> {
                      return absl::UnavailableError("no memory to map it");
                    })
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
}

TEST(AttachCheck, ASetWithoutAMapAsksForNone) {
  const Manifest manifest =
      testing::WriteSmallTableSet({}, ::testing::TempDir() + "/attach_check_test_bare").value();
  const auto attached = CheckAttached(
      {.owner = "engramd at x", .table_set_id = manifest.id, .manifest = manifest.text}, "",
      []() -> absl::StatusOr<absl::string_view> {
        ADD_FAILURE() << "asked for a token map";
        return absl::string_view();
      });
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_EQ(attached->token_map, nullptr);
}

}  // namespace
}  // namespace engram
