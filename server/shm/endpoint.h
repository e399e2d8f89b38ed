// engramd's end of shared memory: a Unix socket over which clients of this machine get a
// table set's memory, or a ring.
//
// One thread ("engram-shm") takes clients and lets go of them: a client's open socket is its lease,
// and whatever it was lent goes when the socket closes, however the client ended. Each ring has a
// thread of its own. Clients are bounded, and so is the time that one may take to say what it
// wants. Who may attach: peers of engramd's own uid, and the uids that are listed; root is no
// exception. Start and destroy belong to one thread; the counts may be read from any.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "memstore/os/memfd.h"
#include "memstore/store/table_set_registry.h"
#include "server/metrics/attach_refusals.h"
#include "server/metrics/metrics.h"
#include "server/net/listen_socket.h"
#include "server/shm/handshake.h"
#include "server/shm/ring_worker.h"

namespace engram {

// Inference processes of one machine, some times over. Each costs the server a descriptor.
inline constexpr uint32_t kMaxShmClients = 128;
// Each has a thread and 2.6 MB.
inline constexpr uint32_t kMaxRings = 32;

struct ShmEndpointOptions {
  std::string socket_path;
  std::vector<uid_t> allowed_uids = {};  // beside the process's own
  uint64_t max_batch_rows = 0;           // what a client of a ring is told
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();  // of the rings
  Clock* clock = nullptr;                                          // outlives the endpoint
  // Who is refused is told to it; null: nobody asks. Outlives the endpoint.
  AttachRefusals* refusals = nullptr;
  // Whether that user may have the set of this name.
  std::function<absl::Status(uid_t, absl::string_view)> may_have = [](uid_t, absl::string_view) {
    return absl::OkStatus();
  };
};

class ShmEndpoint {
 public:
  // Binds the socket (mode 0660, whatever the umask). ALREADY_EXISTS when somebody listens there,
  // UNAVAILABLE with the system's reason otherwise; the socket of an engramd that is gone is
  // replaced. `registry` outlives the endpoint.
  static absl::StatusOr<std::unique_ptr<ShmEndpoint>> Start(const ShmEndpointOptions& options,
                                                            const TableSetRegistry* registry);
  // Tells every client that the owner has stopped (their next batch is UNAVAILABLE), ends the
  // threads, and removes the socket's file if it is still this one.
  ~ShmEndpoint();
  ShmEndpoint(const ShmEndpoint&) = delete;
  ShmEndpoint& operator=(const ShmEndpoint&) = delete;

  uint32_t clients() const { return clients_.load(); }
  uint32_t rings() const { return rings_.load(); }

 private:
  struct Client;

  ShmEndpoint(const ShmEndpointOptions& options, const TableSetRegistry* registry);
  void Run();
  void Accept();
  void HandleMessage(Client& client);
  absl::Status Lend(Client& client, const ParsedShmRequest& request);
  void Refuse(const FileDescriptor& socket, const absl::Status& status, AttachRefusal reason);
  void Pause() const;
  void DropEnded();

  const ShmEndpointOptions options_;
  const TableSetRegistry* const registry_;
  std::optional<ListenSocket> listener_;  // from Start on
  FileDescriptor stop_;                   // an eventfd
  std::atomic<uint32_t> clients_{0};
  RingCount rings_{0};
  uint32_t ring_number_ = 0;
  std::vector<std::unique_ptr<Client>> lent_;  // the thread's own
  std::thread thread_;
};

}  // namespace engram
