#include "server/net/listen_address.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(ParseListenAddress, TakesBothForms) {
  for (const std::string text : {"127.0.0.1:7300", "localhost:0", "[::1]:65535", "unix:/run/e"}) {
    const auto address = ParseListenAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->Text(), text);
    EXPECT_EQ(address->is_unix(), text[0] == 'u');
  }
}

TEST(ParseListenAddress, RefusesTheRestNamingTheForms) {
  const std::string long_path = "unix:/" + std::string(200, 'x');
  for (const std::string& text :
       {std::string(""), std::string("host"), std::string(":7300"), std::string("host:"),
        std::string("host:65536"), std::string("host:-1"), std::string("::1:7300"),
        std::string("host:http"), std::string("unix:"), std::string("unix://run/e"),
        std::string("unix:/a\0b", 9), long_path}) {
    const auto address = ParseListenAddress(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(address.status()), HasSubstr("write HOST:PORT or unix:PATH"));
    EXPECT_THAT(Message(address.status()), HasSubstr(absl::StrCat("\"", text, "\"")));
  }
}

// A client's target is a URI: such a path would be another one there.
TEST(ParseListenAddress, RefusesPathsThatClientsReadDifferently) {
  for (const std::string text : {"unix:/run/50%25", "unix:/run/a?b", "unix:/run/a#b"}) {
    const auto address = ParseListenAddress(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(address.status()), HasSubstr("choose another"));
  }
}

TEST(ListenAddress, AbstractSocketsAreRefusedWithTheFix) {
  EXPECT_THAT(Message(ParseListenAddress("unix:@name").status()),
              HasSubstr("for a file of that name write unix:./@name"));
  EXPECT_EQ(ParseListenAddress("unix:./@name")->unix_path, "./@name");
}

TEST(ListenAddress, IsLocalWhereOnlyThisMachineCanReachIt) {
  for (const char* local : {"unix:/s", "127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1"}) {
    EXPECT_TRUE(ParseListenAddress(local)->IsLocal()) << local;
  }
  for (const char* other : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "128.0.0.1:1",
                            "127.0.0.1.evil.org:1", "node-1:1", "127.1:1"}) {
    EXPECT_FALSE(ParseListenAddress(other)->IsLocal()) << other;
  }
}

}  // namespace
}  // namespace engram
