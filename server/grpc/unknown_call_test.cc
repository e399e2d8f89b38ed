#include "server/grpc/unknown_call.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(UnknownMethodText, NamesTheMethodAndTheRightPort) {
  EXPECT_THAT(UnknownMethodText("/engram.v1.Admin/List"),
              AllOf(HasSubstr("/engram.v1.Admin/List"), HasSubstr("--admin-grpc-listen")));
  EXPECT_THAT(UnknownMethodText("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
              AllOf(HasSubstr("ServerReflectionInfo"), HasSubstr("127.0.0.1")));
  EXPECT_THAT(UnknownMethodText("/engram.v1.Lookup/Guess"),
              AllOf(HasSubstr("/engram.v1.Lookup/Guess"), HasSubstr("lookup.proto"),
                    Not(HasSubstr("--admin-grpc-listen"))));
}

// A client chooses the name: it goes into messages and logs.
TEST(UnknownMethodText, ShowsPrintableCharactersAndNotAllOfALongName) {
  const std::string text = UnknownMethodText("/a\n\x1b[31m/" + std::string(7000, 'x'));
  EXPECT_LT(text.size(), 1000u);
  EXPECT_THAT(text, AllOf(Not(HasSubstr("\n")), Not(HasSubstr("\x1b"))));
}

}  // namespace
}  // namespace engram
