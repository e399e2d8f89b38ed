#include "client/transport/asked_for.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AskedFor, AnIdIsAnIdAndAllElseAName) {
  Manifest manifest;
  manifest.id = std::string(63, 'a') + "0";
  manifest.name = "one";
  for (const std::string& right : {manifest.id, manifest.id.substr(0, 12),
                                   manifest.id.substr(0, 63), manifest.name, std::string()}) {
    EXPECT_TRUE(IsAskedFor(manifest, right)) << right;
  }
  for (const std::string& wrong :
       {std::string(64, 'a'), std::string(63, 'A') + "0", manifest.id.substr(1), manifest.id + "0",
        manifest.id.substr(0, 11), std::string(11, 'a') + "b", std::string("One"),
        std::string("on"), std::string("one ")}) {
    EXPECT_FALSE(IsAskedFor(manifest, wrong)) << wrong;
  }
  // Whoever gives a set another's id as a name is not taken for it.
  manifest.name = std::string(64, 'b');
  EXPECT_FALSE(IsAskedFor(manifest, manifest.name));
  // All else that looks like the beginning of one may be a name.
  manifest.name = "deadbeefcafe";
  EXPECT_TRUE(IsAskedFor(manifest, manifest.name));
}

TEST(AskedFor, TheErrorNamesBothAndTheOwner) {
  Manifest manifest;
  manifest.id = std::string(64, 'a');
  manifest.name = "one";
  EXPECT_TRUE(CheckAskedFor(manifest, "one", "engramd at x").ok());
  const absl::Status status = CheckAskedFor(manifest, std::string(64, 'c'), "engramd at x");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(manifest.id), HasSubstr("one"), HasSubstr(std::string(64, 'c')),
                    HasSubstr("engramd at x")));
}

}  // namespace
}  // namespace engram
