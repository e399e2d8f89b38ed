#include "server/net/server_shutdown.h"

#include <grpc/grpc.h>

#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/base/mutex.h"
#include "memstore/os/thread.h"
#include "proto/rpc/grpc_time.h"

namespace engram {
namespace {

// What clients that were told to go have for closing their connections themselves.
constexpr absl::Duration kGoodbye = absl::Milliseconds(100);

void ShutDown(grpc::Server& server) {
  server.Shutdown(rpc::After(absl::ToChronoNanoseconds(kGoodbye)));
}

}  // namespace

void ShutDownServer(grpc::Server& server, Connections& connections, Clock& clock) {
  struct Down {
    Mutex mutex;
    CondVar changed;
    bool is_down ABSL_GUARDED_BY(mutex) = false;
  } down;
  absl::StatusOr<std::thread> shutdown = StartThread("shutdown", [&] {
    ShutDown(server);
    MutexLock lock(down.mutex);
    down.is_down = true;
    down.changed.NotifyAll();
  });
  if (!shutdown.ok()) {
    grpc_server_cancel_all_calls(server.c_server());
    connections.ShutDown();
    ShutDown(server);
    server.Wait();
    return;
  }
  {
    MutexLock lock(down.mutex);
    for (bool cancelled = false; !down.is_down; cancelled = true) {
      const MonotonicTime next = clock.After(kGoodbye);
      while (!down.is_down && clock.WaitUntil(down.changed, down.mutex, next)) {
      }
      if (down.is_down) break;
      if (cancelled) connections.ShutDown();
      grpc_server_cancel_all_calls(server.c_server());
    }
  }
  shutdown->join();
  server.Wait();
}

}  // namespace engram
