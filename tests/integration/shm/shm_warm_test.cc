// What a warm lookup costs beside its rows: no allocation, no system call, no page fault.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>

#include "absl/base/config.h"
#include "client/client.h"
#include "client/transport/local/embedded_transport.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/testing/count_allocations.h"
#include "tests/integration/shm/shm_owner.h"

namespace engram::integration {
namespace {

constexpr int kLookups = 200;

MonotonicTime Soon() { return RealClock().Now() + absl::Seconds(60); }

void ExpectNoAllocation(std::unique_ptr<Transport> transport) {
  SCOPED_TRACE(transport->capabilities().name);
  ShmBatch batch(600);
  ASSERT_TRUE(batch.LookUp(*transport, Soon()).ok());
  uint64_t before = testing::Allocations();
  for (int i = 0; i < kLookups; ++i) EXPECT_TRUE(batch.LookUp(*transport, Soon()).ok());
  EXPECT_EQ(testing::Allocations(), before);
  EXPECT_TRUE(batch.IsExact());

  // The same from token ids.
  const auto client = Client::Create(std::move(transport)).value();
  const std::vector<int32_t> ids(20, 7);
  std::vector<std::byte> rows(ids.size() * 264);
  const std::vector<Landing> landings = {{.data = rows.data()}, {.data = rows.data()}};
  const SequenceState state = Addresser::Start();
  Client::Plan plan;
  ASSERT_TRUE(client->PlanTokens(state, ids, {}, &plan).ok());
  before = testing::Allocations();
  for (int i = 0; i < kLookups; ++i) {
    ASSERT_TRUE(client->PlanTokens(state, ids, {}, &plan).ok());
    const auto ticket = client->Submit(plan, landings, Soon());
    ASSERT_TRUE(client->Wait(*ticket).ok());
    client->Reap(*ticket);
  }
  EXPECT_EQ(testing::Allocations(), before);
}

TEST(ShmWarm, NothingAllocates) {
  ShmOwner owner;
  owner.Load();
  owner.Start();
  ExpectNoAllocation(EmbeddedTransport::Attach(owner.set_directory(), "").value());
  ExpectNoAllocation(owner.Attach(""));
  ExpectNoAllocation(owner.Attach("ring"));
}

TEST(ShmWarm, AMappedLookupTakesNoPageFault) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  GTEST_SKIP() << "a sanitizer has page faults of its own";
#endif
  ShmOwner owner;
  owner.Load();
  owner.Start();
  const auto transport = owner.Attach("");
  // All rows of the set, none of which was read through this mapping before.
  std::vector<ShmBatch> batches;
  for (int i = 0; i < 4; ++i) batches.emplace_back(ShmOwner::kRows, i);
  ShmBatch first(8);
  ASSERT_TRUE(first.LookUp(*transport, Soon()).ok());
  rusage before;
  rusage after;
  ASSERT_EQ(getrusage(RUSAGE_THREAD, &before), 0);
  for (ShmBatch& batch : batches) ASSERT_TRUE(batch.LookUp(*transport, Soon()).ok());
  ASSERT_EQ(getrusage(RUSAGE_THREAD, &after), 0);
  EXPECT_EQ(after.ru_minflt + after.ru_majflt, before.ru_minflt + before.ru_majflt);
}

// From here on the process ends at its first system call but exit_group.
void ForbidSystemCalls() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const sock_fprog program{std::size(code), code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    _exit(77);
  }
}

TEST(ShmWarm, AMappedLookupMakesNoSystemCall) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  GTEST_SKIP() << "a sanitizer makes system calls of its own";
#endif
  ShmOwner owner;
  const pid_t child = fork();  // before there are threads
  if (child == 0) {
    const auto transport = owner.Attach("");
    if (transport == nullptr) _exit(1);
    ShmBatch batch(3000);
    if (!batch.LookUp(*transport, Soon()).ok()) _exit(2);
    ForbidSystemCalls();
    for (int i = 0; i < kLookups; ++i) {
      if (!batch.LookUp(*transport, Soon()).ok()) _exit(3);
    }
    _exit(batch.IsExact() ? 0 : 4);
  }
  owner.Load();
  owner.Start();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "there is no seccomp here";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << (WIFSIGNALED(status) ? "ended by signal " : "exit code ")
      << (WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

}  // namespace
}  // namespace engram::integration
