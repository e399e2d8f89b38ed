// A client that keeps a lookup open, for tests of what a server does meanwhile:
//
//   holding_client ADDRESS
//
// asks for more rows than flow control lets through, takes the first and says "held"; at a line of
// its input it takes the rest and says how that ended: "EXACT", "WRONG ROWS" or a status.
#include <cstdio>
#include <string>

#include "gtest/gtest.h"
#include "tests/integration/hand_stream.h"

namespace engram::integration {
namespace {

// Ten messages of a stream.
constexpr uint64_t kRows = 20'000;

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

int Main(const std::string& address) {
  const v1::ServedTableSet set = DescribeFirst(*ConnectStub(address));
  const v1::LookupRequest request = RowBatch(set, /*batch_id=*/1, kRows);
  HandStream stream(address);
  if (!stream.Write(request) || !stream.Read()) return 1;
  Say("held");
  char line[64];
  if (std::fgets(line, sizeof(line), stdin) == nullptr) return 1;
  const bool ended = stream.ReadToAnEnd().has_value();
  const Answer answer = stream.Take(1);
  stream.WritesDone();
  const grpc::Status status = stream.Finish();
  if (!ended || answer.code != 0) {
    Say("ended by " + status.error_message() + answer.message);
    return 1;
  }
  ExpectExact(set, request, answer);
  const bool exact = !::testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed();
  Say(exact ? "EXACT" : "WRONG ROWS");
  return exact ? 0 : 1;
}

}  // namespace
}  // namespace engram::integration

int main(int argc, char** argv) { return argc == 2 ? engram::integration::Main(argv[1]) : 2; }
