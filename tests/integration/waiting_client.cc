// A client that waits, for tests that set its clock or stop its server meanwhile:
//
//   waiting_client TARGET MODE DEADLINE_S TOKENS [FOLLOWED [again]]
//
// attaches within DEADLINE_S and says "attached"; at a line of its input it asks for the rows of
// TOKENS tokens, with that deadline, and says "submitted"; then how that ended: "EXACT", "WRONG
// ROWS" or a status. With FOLLOWED, a follower of that target is there from the beginning ("follows
// it"), so that a thread of its sleeps in gRPC, and looks at the sockets, meanwhile. With "again"
// it asks anew, until that deadline, while nobody is there: it says "UNAVAILABLE" at the first such
// answer, and sleeps between two, in which none of its threads waits for anything.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/follower.h"
#include "memstore/base/clock.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

struct Asked {
  Client& client;
  const Client::Plan& plan;
  std::string& rows;
};

absl::Status Ask(const Asked& asked, MonotonicTime deadline) {
  const absl::StatusOr<Ticket> ticket = asked.client.Submit(
      asked.plan,
      DenseLandings(asked.client.table_set(), reinterpret_cast<std::byte*>(asked.rows.data())),
      deadline);
  if (!ticket.ok()) return ticket.status();
  Say("submitted");
  absl::Status status = asked.client.Wait(*ticket);
  asked.client.Reap(*ticket);
  return status;
}

absl::Status AskUntilThere(const Asked& asked, MonotonicTime deadline) {
  absl::Status status = Ask(asked, deadline);
  if (absl::IsUnavailable(status)) Say("UNAVAILABLE");
  while (absl::IsUnavailable(status) && RealClock().Now() < deadline) {
    RealClock().SleepFor(absl::Milliseconds(100));
    status = Ask(asked, deadline);
  }
  return status;
}

absl::Status Run(const std::string& target, const std::string& mode, absl::Duration span,
                 size_t tokens, const std::string& followed, bool again) {
  std::unique_ptr<Follower> follower;
  if (!followed.empty()) {
    auto attached = Follower::Attach(followed, {}, nullptr);
    if (!attached.ok()) return attached.status();
    follower = *std::move(attached);
    Say("follows it");
  }
  auto client = Client::Attach(target, {.timeout = span, .mode = mode});
  if (!client.ok()) return client.status();
  const Manifest& set = (*client)->table_set();
  const std::vector<int32_t> token_ids = RealTokenIds(tokens);
  Client::Plan plan;
  absl::Status status = (*client)->PlanTokens(Addresser::Start(), token_ids, {}, &plan);
  if (!status.ok()) return status;
  std::string rows(tokens * TokenBytes(set), '\0');
  Say("attached");
  char line[64];
  if (std::fgets(line, sizeof(line), stdin) == nullptr) return absl::CancelledError("no input");
  const MonotonicTime deadline = RealClock().After(span);
  const Asked asked{**client, plan, rows};
  status = again ? AskUntilThere(asked, deadline) : Ask(asked, deadline);
  if (!status.ok()) return status;
  Say(rows == ExpectedRows(set, (*client)->addresser(), token_ids) ? "EXACT" : "WRONG ROWS");
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  double seconds = 0;
  size_t tokens = 0;
  if (argc < 5 || argc > 7 || !absl::SimpleAtod(argv[3], &seconds) ||
      !absl::SimpleAtoi(argv[4], &tokens)) {
    std::fputs("waiting_client TARGET MODE DEADLINE_S TOKENS [FOLLOWED [again]]\n", stderr);
    return 2;
  }
  const absl::Status status =
      Run(argv[1], argv[2], absl::Seconds(seconds), tokens, argc > 5 ? argv[5] : "", argc > 6);
  if (!status.ok()) Say(status.ToString());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace engram::integration

int main(int argc, char** argv) { return engram::integration::Main(argc, argv); }
