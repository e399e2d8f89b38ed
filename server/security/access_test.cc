#include "server/security/access.h"

#include <grpcpp/security/auth_context.h>
#include <spdlog/sinks/ostream_sink.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "server/security/token_file.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kToken[] = "0123456789abcdefghij";
constexpr char kOther[] = "jihgfedcba9876543210";

// A connection with a certificate of these alternative names, and a common name beside them.
class Certificate final : public grpc::AuthContext {
 public:
  explicit Certificate(std::vector<std::string> names) : names_(std::move(names)) {}
  bool IsPeerAuthenticated() const override { return !names_.empty(); }
  std::vector<grpc::string_ref> GetPeerIdentity() const override { return {}; }
  std::string GetPeerIdentityPropertyName() const override { return ""; }
  std::vector<grpc::string_ref> FindPropertyValues(const std::string& name) const override {
    if (name == "x509_pem_cert" && !names_.empty()) return {"PEM"};
    if (name == "x509_common_name" && !names_.empty()) return {"its common name"};
    if (name != "x509_subject_alternative_name") return {};
    return {names_.begin(), names_.end()};
  }
  grpc::AuthPropertyIterator begin() const override { return None(); }
  grpc::AuthPropertyIterator end() const override { return None(); }
  void AddProperty(const std::string&, const grpc::string_ref&) override {}
  bool SetPeerIdentityPropertyName(const std::string&) override { return false; }

 private:
  struct None : grpc::AuthPropertyIterator {
    None() = default;
  };
  const std::vector<std::string> names_;
};

class AccessTest : public ::testing::Test {
 protected:
  std::string Tokens(const std::string& text) const {
    const std::string path =
        absl::StrCat(::testing::TempDir(), "/",
                     ::testing::UnitTest::GetInstance()->current_test_info()->name(), "-tokens");
    std::ofstream(path) << text;
    return path;
  }
  // Of a file with this text.
  const TokenFile* Open(const std::string& text) {
    absl::StatusOr<std::unique_ptr<TokenFile>> tokens =
        TokenFile::Open(Tokens(text), log_, &clock_);
    EXPECT_TRUE(tokens.ok()) << tokens.status();
    if (!tokens.ok()) return nullptr;
    tokens_ = *std::move(tokens);
    return tokens_.get();
  }
  void Start(AccessControl::Options options) {
    access_ = std::make_unique<AccessControl>(std::move(options));
  }
  // Names of a caller with that certificate and, where there is one, that token.
  absl::StatusOr<Caller> Call(const std::vector<std::string>& certificate,
                              const std::string& token = "") {
    AccessControl::Metadata metadata;
    const std::string value = absl::StrCat("Bearer ", token);
    if (!token.empty()) metadata.emplace("authorization", value);
    return access_->Authenticate(Certificate(certificate), metadata);
  }

  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> log_ = std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
  FakeClock clock_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<AccessControl> access_;
};

TEST_F(AccessTest, ATokenBesideACertificateGivesWhatBothMayHave) {
  Start({.tokens = Open(absl::StrCat("wide ", kToken, "\nnarrow ", kOther, "\n")),
         .allow = {{"wide", "*"}, {"narrow", "a"}, {"worker", "a"}, {"worker", "b"}}});
  const auto may = [&](const std::vector<std::string>& certificate, const char* token,
                       const char* set) {
    const absl::StatusOr<Caller> caller = Call(certificate, token);
    EXPECT_TRUE(caller.ok()) << caller.status();
    return access_->MayHave(*caller, set);
  };
  EXPECT_TRUE(may({}, kToken, "c").ok());
  EXPECT_TRUE(may({"worker"}, kToken, "b").ok());
  EXPECT_THAT(std::string(may({"worker"}, kToken, "c").message()),
              HasSubstr("worker, as the certificate beside the token of wide says, may not have"));
  EXPECT_TRUE(may({"worker"}, kOther, "a").ok());
  EXPECT_THAT(std::string(may({"worker"}, kOther, "b").message()),
              HasSubstr("narrow, as the token says, may not have"));
  EXPECT_FALSE(may({"nobody"}, kToken, "a").ok());
  // Names that do not count give nothing, and do not leave the token alone.
  EXPECT_THAT(std::string(may({"unix"}, kToken, "a").message()),
              HasSubstr("nobody, as the certificate beside the token of wide says,"));
  EXPECT_EQ(Call({"worker"}).status().code(), absl::StatusCode::kUnauthenticated);
}

// RFC 7235 section 2.1.
TEST_F(AccessTest, TheSchemesNameIsInAnyCase) {
  Start({.tokens = Open(absl::StrCat("worker ", kToken, "\n"))});
  for (const char* scheme : {"Bearer ", "bearer ", "BEARER "}) {
    AccessControl::Metadata metadata;
    const std::string value = absl::StrCat(scheme, kToken);
    metadata.emplace("authorization", value);
    EXPECT_TRUE(access_->Authenticate(Certificate({}), metadata).ok()) << scheme;
  }
}

TEST_F(AccessTest, AnOperatorsCertificateSufficesWhereItIsTold) {
  Start({.tokens = Open(absl::StrCat("ops ", kToken, "\nworker ", kOther, "\n")),
         .certificates_suffice = true,
         .only = {"ops", "boss"}});
  EXPECT_TRUE(Call({"boss"}).ok());
  EXPECT_TRUE(Call({"boss"}, kToken).ok());
  EXPECT_TRUE(Call({}, kToken).ok());
  EXPECT_EQ(Call({"worker"}).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Call({"worker"}, kToken).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Call({"boss"}, kOther).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Call({"boss"}, "not one of them").status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(Call({}).status().code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(AccessTest, TheLogNamesWhoeverShowsSomethingWhateverHeMay) {
  Start({.tokens = Open(absl::StrCat("ops ", kToken, "\nworker ", kOther, "\n")), .only = {"ops"}});
  const auto name = [&](const std::vector<std::string>& certificate, const std::string& token) {
    AccessControl::Metadata metadata;
    const std::string value = absl::StrCat("Bearer ", token);
    if (!token.empty()) metadata.emplace("authorization", value);
    const Certificate connection(certificate);
    return access_->NameForLog(&connection, metadata);
  };
  EXPECT_EQ(name({}, ""), "");
  EXPECT_EQ(name({}, kOther), "worker");
  EXPECT_EQ(name({"a\nb"}, ""), "a\\nb");
  EXPECT_EQ(name({"a", "worker"}, kOther), "worker+a");
  EXPECT_EQ(name({"a"}, "not one of them"), "a");
  EXPECT_EQ(access_->NameForLog(nullptr, {}), "");
}

TEST_F(AccessTest, WhatUnixMayHaveEachOfItsUsersMay) {
  Start({.allow = {{"unix", "a"}, {"unix:7", "b"}}});
  const auto may = [&](const std::string& name, const char* set) {
    return access_->MayHave({.names = {name}}, set).ok();
  };
  EXPECT_TRUE(may(UnixIdentity(7), "a"));
  EXPECT_TRUE(may(UnixIdentity(7), "b"));
  EXPECT_TRUE(may(UnixIdentity(8), "a"));
  EXPECT_FALSE(may(UnixIdentity(8), "b"));
  EXPECT_TRUE(may(kUnixIdentity, "a"));
  EXPECT_FALSE(may(kUnixIdentity, "b"));
  EXPECT_FALSE(may("unixes", "a"));
}

TEST_F(AccessTest, NoTokenAndNoCertificateIsAPeerOfAUnixSocket) {
  for (const char* name : {"unix", "unix:7", "unix:"}) {
    const absl::Status status = TokenFile::Check(Tokens(absl::StrCat(name, " ", kToken)));
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(":1:"), HasSubstr("what peers of Unix sockets are called")));
  }
  Start({.allow = {{"unix", "*"}}});
  const absl::StatusOr<Caller> caller = Call({"unix", "unix:7", "worker"});
  ASSERT_TRUE(caller.ok());
  EXPECT_THAT(caller->names, ElementsAre("worker"));
  EXPECT_THAT(Call({"unix"})->names, IsEmpty());
}

TEST_F(AccessTest, MarksOfAnEditorAreNoPartOfAnIdentity) {
  Start({.tokens = Open(absl::StrCat("\xef\xbb\xbfops ", kToken)), .only = {"ops"}});
  EXPECT_TRUE(Call({}, kToken).ok());
  const absl::Status wide = TokenFile::Check(Tokens("\xff\xfeo p s"));
  EXPECT_THAT(std::string(wide.message()), HasSubstr("UTF-16"));
}

TEST_F(AccessTest, ACallThatLastsEndsWithItsToken) {
  Start({.tokens = Open(absl::StrCat("ops ", kToken)), .allow = {{"boss", "*"}}});
  absl::StatusOr<Caller> caller = Call({}, kToken);
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_TRUE(access_->Recheck(*caller).ok());
  // Its owner has another name.
  Tokens(absl::StrCat("boss ", kToken));
  tokens_->ReadNow();
  EXPECT_TRUE(access_->Recheck(*caller).ok());
  EXPECT_TRUE(access_->MayHave(*caller, "a").ok());
  Tokens(absl::StrCat("boss ", kOther));
  tokens_->ReadNow();
  EXPECT_EQ(access_->Recheck(*caller).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(Call({}, kToken).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(Call({}, kOther).ok());
}

TEST_F(AccessTest, ACallByACertificateEndsWithNoToken) {
  Start({.tokens = Open(absl::StrCat("ops ", kToken)), .certificates_suffice = true});
  absl::StatusOr<Caller> caller = Call({"worker"});
  ASSERT_TRUE(caller.ok()) << caller.status();
  Tokens(absl::StrCat("ops ", kOther));
  tokens_->ReadNow();
  EXPECT_TRUE(access_->Recheck(*caller).ok());
}

TEST(UnixIdentity, IsAUsersByItsDigitsAlone) {
  EXPECT_TRUE(NamesUnixUser("unix:0"));
  EXPECT_TRUE(NamesUnixUser(UnixIdentity(4294967295)));
  for (const char* other : {"unix", "unix:", "unix:+7", "unix: 7", "unix:07", "unix:7 ", "7"}) {
    EXPECT_FALSE(NamesUnixUser(other)) << other;
  }
}

}  // namespace
}  // namespace engram
