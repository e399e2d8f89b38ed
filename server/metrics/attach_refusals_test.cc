#include "server/metrics/attach_refusals.h"

#include <spdlog/sinks/ostream_sink.h>

#include <sstream>
#include <string>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class AttachRefusalsTest : public ::testing::Test {
 protected:
  std::vector<std::string> Lines() const {
    return absl::StrSplit(text_.str(), '\n', absl::SkipEmpty());
  }
  uint64_t Count(AttachPath path, AttachRefusal reason) const {
    return refusals_.Read()[static_cast<size_t>(path)][static_cast<size_t>(reason)];
  }

  std::ostringstream text_;
  FakeClock clock_;
  AttachRefusals refusals_{std::make_shared<spdlog::logger>(
                               "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)),
                           &clock_};
};

TEST_F(AttachRefusalsTest, EachIsCountedByItsWayAndReason) {
  const absl::Status status = absl::PermissionDeniedError("worker may not have \"x\"");
  refusals_.Add(AttachPath::kShm, AttachRefusal::kPermissionDenied, "uid 7", status);
  refusals_.Add(AttachPath::kShm, AttachRefusal::kPermissionDenied, "uid 7", status);
  refusals_.Add(AttachPath::kRdma, AttachRefusal::kVersion, "ipv4:1.2.3.4:5", status);
  EXPECT_EQ(Count(AttachPath::kShm, AttachRefusal::kPermissionDenied), 2u);
  EXPECT_EQ(Count(AttachPath::kRdma, AttachRefusal::kVersion), 1u);
  EXPECT_EQ(Count(AttachPath::kGrpc, AttachRefusal::kPermissionDenied), 0u);
  ASSERT_THAT(Lines(), SizeIs(3));
  EXPECT_THAT(Lines()[0], AllOf(HasSubstr("over shm"), HasSubstr("uid 7"),
                                HasSubstr("(permission_denied)"), HasSubstr("may not have")));
}

TEST_F(AttachRefusalsTest, TheLastOnesAreKeptWithThoseOfLookups) {
  refusals_.Add(AttachPath::kShm, AttachRefusal::kFull, "uid 7",
                absl::ResourceExhaustedError("no"));
  refusals_.AddLookup("permission_denied", "ipv4:1.2.3.4:5", absl::PermissionDeniedError("not x"));
  const std::vector<RecentRefusal> recent = refusals_.Recent();
  ASSERT_THAT(recent, SizeIs(2));
  EXPECT_EQ(recent[0].way, "lookup");
  EXPECT_EQ(recent[0].message, "not x");
  EXPECT_EQ(recent[1].way, "attach over shm");
  EXPECT_EQ(recent[1].reason, "full");
}

TEST_F(AttachRefusalsTest, LinesOfASecondAreBoundedAndThoseLeftOutAreTold) {
  const auto refuse = [this] {
    refusals_.Add(AttachPath::kGrpc, AttachRefusal::kUnknownName, "p", absl::NotFoundError("no"));
  };
  for (int i = 0; i < 25; ++i) refuse();
  EXPECT_THAT(Lines(), SizeIs(AttachRefusals::kLinesPerSecond));
  EXPECT_EQ(Count(AttachPath::kGrpc, AttachRefusal::kUnknownName), 25u);
  clock_.Advance(absl::Seconds(1));
  refuse();
  ASSERT_THAT(Lines(), SizeIs(AttachRefusals::kLinesPerSecond + 2));
  EXPECT_THAT(Lines()[AttachRefusals::kLinesPerSecond], HasSubstr("15 lines"));
}

TEST_F(AttachRefusalsTest, WhatAPeerSentIsQuoted) {
  refusals_.Add(AttachPath::kGrpc, AttachRefusal::kOther, "a\nb", absl::UnknownError("c\nd"));
  EXPECT_THAT(Lines(), SizeIs(1));
}

TEST(AttachReason, FollowsTheCodeAndWhatWasAskedFor) {
  const absl::Status unknown = absl::FailedPreconditionError("not served");
  EXPECT_EQ(ReasonOf(unknown, std::string(64, 'a')), AttachRefusal::kUnknownId);
  EXPECT_EQ(ReasonOf(unknown, "891bab1bc16a"), AttachRefusal::kUnknownId);
  EXPECT_EQ(ReasonOf(unknown, "deepseek"), AttachRefusal::kUnknownName);
  EXPECT_EQ(ReasonOf(unknown, ""), AttachRefusal::kUnknownName);
  EXPECT_EQ(ReasonOf(absl::DataLossError(""), "x"), AttachRefusal::kFenced);
  EXPECT_EQ(ReasonOf(absl::UnauthenticatedError(""), "x"), AttachRefusal::kUnauthenticated);
  EXPECT_EQ(ReasonOf(absl::PermissionDeniedError(""), "x"), AttachRefusal::kPermissionDenied);
  EXPECT_EQ(ReasonOf(absl::UnimplementedError(""), "x"), AttachRefusal::kNotOffered);
  EXPECT_EQ(ReasonOf(absl::ResourceExhaustedError(""), "x"), AttachRefusal::kFull);
  EXPECT_EQ(ReasonOf(absl::UnavailableError(""), "x"), AttachRefusal::kDraining);
  EXPECT_EQ(ReasonOf(absl::InvalidArgumentError(""), "x"), AttachRefusal::kInvalid);
  EXPECT_EQ(ReasonOf(absl::InternalError(""), "x"), AttachRefusal::kOther);
}

}  // namespace
}  // namespace engram
