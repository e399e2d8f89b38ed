#include "server/security/token_file.h"

#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/ostream_sink.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kToken[] = "0123456789abcdefghij";
constexpr char kOther[] = "jihgfedcba9876543210";

// Calls back for each line, in the thread that writes it.
class AskingSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit AskingSink(std::function<void()> ask) : ask_(std::move(ask)) {}

 private:
  void sink_it_(const spdlog::details::log_msg&) override { ask_(); }
  void flush_() override {}

  const std::function<void()> ask_;
};

class TokenFileTest : public ::testing::Test {
 protected:
  void Write(const std::string& text) const { std::ofstream(path_) << text; }
  void Open(const std::string& text) {
    Write(text);
    absl::StatusOr<std::unique_ptr<TokenFile>> tokens = TokenFile::Open(path_, log_, &clock_);
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    tokens_ = *std::move(tokens);
    clock_.AwaitWaiters(1);
  }
  // Returns once the thread has looked.
  void Look() {
    clock_.AwaitWaiters(1);
    clock_.Advance(absl::Seconds(1));
    clock_.AwaitWaiters(1);
  }
  bool Knows(const char* token) const { return tokens_->IdentityOf(Sha256Hex(token)).has_value(); }
  // What was logged since it was asked.
  std::string News() {
    const std::string text = text_.str();
    text_.str("");
    return text;
  }

  const std::string path_ =
      absl::StrCat(::testing::TempDir(), "/token_file_",
                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> log_ = std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
  FakeClock clock_;
  std::unique_ptr<TokenFile> tokens_;
};

TEST_F(TokenFileTest, AChangeIsTakenWithoutACallWhenTwoLooksReadTheSame) {
  Open(absl::StrCat("ops ", kToken, "\n"));
  EXPECT_TRUE(Knows(kToken));
  const uint64_t version = tokens_->version();
  Write(absl::StrCat("ops ", kOther, "\n"));
  Look();
  EXPECT_TRUE(Knows(kToken)) << "it may be half written";
  EXPECT_EQ(tokens_->version(), version);
  Look();
  EXPECT_FALSE(Knows(kToken));
  EXPECT_TRUE(Knows(kOther));
  EXPECT_NE(tokens_->version(), version);
  EXPECT_THAT(News(), HasSubstr(absl::StrCat("read ", path_, " again: 1 token\n")));
  Look();
  Look();
  EXPECT_THAT(News(), IsEmpty());
}

TEST_F(TokenFileTest, WhatCannotBeUsedIsSaidOnceAndWhatWasReadStays) {
  Open(absl::StrCat("ops ", kToken, "\n"));
  EXPECT_TRUE(tokens_->Refusal().ok());
  Write("ops\n");
  for (int look = 0; look < 4; ++look) Look();
  EXPECT_TRUE(Knows(kToken));
  EXPECT_THAT(std::string(tokens_->Refusal().message()), HasSubstr(path_ + ":1: "));
  const std::string told = News();
  EXPECT_THAT(told, HasSubstr("the tokens read before stay"));
  EXPECT_EQ(told.find("stay"), told.rfind("stay")) << told;
  std::filesystem::remove(path_);
  for (int look = 0; look < 4; ++look) Look();
  EXPECT_FALSE(tokens_->Refusal().ok());
  EXPECT_THAT(News(), HasSubstr(path_));
  Write(absl::StrCat("ops ", kToken, "\n"));
  for (int look = 0; look < 2; ++look) Look();
  EXPECT_TRUE(tokens_->Refusal().ok());
  EXPECT_THAT(News(), HasSubstr("1 token, unchanged"));
}

TEST_F(TokenFileTest, WhoeverAsksHasItReadAtOnce) {
  Open(absl::StrCat("ops ", kToken));
  tokens_->ReadNow();
  EXPECT_THAT(News(), HasSubstr("1 token, unchanged"));
  Write(absl::StrCat("ops ", kOther));
  tokens_->ReadNow();
  EXPECT_TRUE(Knows(kOther));
  EXPECT_FALSE(Knows(kToken));
  Write("ops");
  for (int times = 0; times < 2; ++times) {
    tokens_->ReadNow();
    EXPECT_THAT(News(), HasSubstr("the tokens read before stay"));
    EXPECT_FALSE(tokens_->Refusal().ok());
  }
  EXPECT_TRUE(Knows(kOther));
}

// A log that stands, as one whose disk is full, keeps no call from being let in.
TEST_F(TokenFileTest, WhoAsksWaitsForNoLog) {
  Open(absl::StrCat("ops ", kToken));
  bool asked = false;
  log_->sinks().push_back(std::make_shared<AskingSink>([&] {
    asked = true;
    EXPECT_TRUE(Knows(kToken));
  }));
  tokens_->ReadNow();
  EXPECT_TRUE(asked);
  asked = false;
  Write("ops");
  tokens_->ReadNow();
  EXPECT_TRUE(asked);
}

TEST_F(TokenFileTest, TokensAreNeverShown) {
  Open(absl::StrCat("ops ", kToken));
  Write(absl::StrCat("ops ", kOther, "\nboss ", kOther));
  EXPECT_THAT(std::string(TokenFile::Check(path_).message()),
              AllOf(HasSubstr(":2: the token of boss is already on an earlier line"),
                    Not(HasSubstr(kOther))));
}

}  // namespace
}  // namespace engram
