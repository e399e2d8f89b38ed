#include "server/shm/endpoint.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "memstore/os/unix_socket.h"
#include "server/net/peer_uid.h"

namespace engram {
namespace {

// A client says what it wants at once; one that does not is not waited for.
constexpr absl::Duration kHandshakeTime = absl::Seconds(5);
// How late that may be seen.
constexpr int kTickMs = 1000;
// When the process has no descriptor or memory left for a client, look again after this.
constexpr int kPauseMs = 100;
// A byte beyond a request's shows that something else came.
constexpr size_t kRequestBuffer = sizeof(ShmRequest) + 1;

// For people; as the kernel knew it when it connected.
std::string PeerOf(const FileDescriptor& socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return "?";
  return absl::StrCat("pid ", peer.pid, ", uid ", peer.uid);
}

}  // namespace

// A socket, and what was lent over it. The ring ends first: it closes over the socket.
struct ShmEndpoint::Client {
  FileDescriptor socket;
  MonotonicTime since;
  bool has_lease = false;
  bool ended = false;
  ServedSet served;
  Lease lease;
  std::unique_ptr<RingWorker> ring;
};

absl::StatusOr<std::unique_ptr<ShmEndpoint>> ShmEndpoint::Start(const ShmEndpointOptions& options,
                                                                const TableSetRegistry* registry) {
  ENGRAM_CHECK(options.clock != nullptr, "an endpoint has a clock");
  std::unique_ptr<ShmEndpoint> endpoint(new ShmEndpoint(options, registry));
  endpoint->stop_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!endpoint->stop_.is_open()) {
    return absl::UnavailableError(absl::StrCat("cannot serve shared memory at ",
                                               options.socket_path,
                                               ": no eventfd: ", strerrordesc_np(errno)));
  }
  ENGRAM_ASSIGN_OR_RETURN(ListenSocket listener, ListenSocket::BindPackets(options.socket_path));
  ENGRAM_RETURN_IF_ERROR(listener.Listen());
  endpoint->listener_.emplace(std::move(listener));
  ENGRAM_ASSIGN_OR_RETURN(endpoint->thread_,
                          StartThread("engram-shm", [raw = endpoint.get()] { raw->Run(); }));
  return endpoint;
}

ShmEndpoint::ShmEndpoint(const ShmEndpointOptions& options, const TableSetRegistry* registry)
    : options_(options), registry_(registry) {}

ShmEndpoint::~ShmEndpoint() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(stop_.get(), &one, sizeof(one));
    thread_.join();
  }
  // First: a successor that is started by whoever sees what follows finds the path free.
  listener_.reset();
  for (const auto& client : lent_) {
    if (client->has_lease) client->served.control->Advance(TableSetState::kGone);
  }
}

void ShmEndpoint::Run() {
  std::vector<pollfd> wait;
  while (true) {
    wait.assign({{stop_.get(), POLLIN, 0}, {listener_->fd(), POLLIN, 0}});
    for (const auto& client : lent_) wait.push_back({client->socket.get(), POLLIN, 0});
    if (poll(wait.data(), wait.size(), kTickMs) < 0) {
      // ENOMEM passes, or not; EINTR has nothing to wait for.
      if (errno != EINTR) Pause();
      continue;
    }
    if (wait[0].revents != 0) return;
    const MonotonicTime now = options_.clock->Now();
    for (size_t i = 0; i < lent_.size(); ++i) {
      Client& client = *lent_[i];
      if (wait[i + 2].revents != 0) {
        HandleMessage(client);
      } else if (!client.has_lease && now - client.since > kHandshakeTime) {
        client.ended = true;
      }
    }
    DropEnded();
    if (wait[1].revents != 0) Accept();
  }
}

// Ends at once where the endpoint is to end.
void ShmEndpoint::Pause() const {
  pollfd stop{stop_.get(), POLLIN, 0};
  poll(&stop, 1, kPauseMs);
}

void ShmEndpoint::DropEnded() {
  lent_.erase(
      std::remove_if(lent_.begin(), lent_.end(), [](const auto& client) { return client->ended; }),
      lent_.end());
  clients_.store(static_cast<uint32_t>(lent_.size()));
}

void ShmEndpoint::Accept() {
  FileDescriptor socket(accept4(listener_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.is_open()) {
    // Out of descriptors: the one that waits stays, and poll would return at once.
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) Pause();
    return;
  }
  absl::Status status = CheckPeerUid(socket.get(), options_.allowed_uids,
                                     "have this engramd's shared memory", "--shm-allow-uid");
  if (!status.ok()) return Refuse(socket, status, ReasonOf(status, ""));
  if (lent_.size() >= kMaxShmClients) {
    return Refuse(
        socket,
        absl::ResourceExhaustedError(absl::StrCat(
            kMaxShmClients, " clients have shared memory of this engramd: detach one first")),
        AttachRefusal::kFull);
  }
  auto client = std::make_unique<Client>();
  client->socket = std::move(socket);
  client->since = options_.clock->Now();
  lent_.push_back(std::move(client));
  clients_.store(static_cast<uint32_t>(lent_.size()));
}

void ShmEndpoint::Refuse(const FileDescriptor& socket, const absl::Status& status,
                         AttachRefusal reason) {
  if (options_.refusals != nullptr) {
    options_.refusals->Add(AttachPath::kShm, reason, PeerOf(socket), status);
  }
  const ShmReply reply = ShmErrorReply(status);
  // A client that is gone already needs no answer.
  static_cast<void>(
      SendMessage(socket, {reinterpret_cast<const std::byte*>(&reply), sizeof(reply)}, {}));
}

// Something came from a client: a request, or, once it has its lease, its end (a lease has nothing
// to say, and whoever says something breaks it).
void ShmEndpoint::HandleMessage(Client& client) {
  std::byte bytes[kRequestBuffer];
  const absl::StatusOr<SocketMessage> received = ReceiveMessage(client.socket, bytes, 0);
  if (absl::IsAborted(received.status())) return;
  client.ended = true;
  if (!received.ok() || client.has_lease) return;
  const absl::Span<const std::byte> message(bytes, std::min(received->bytes, sizeof(bytes)));
  const auto request = ParseShmRequest(message);
  const absl::Status status = request.ok() ? Lend(client, *request) : request.status();
  if (status.ok()) {
    client.ended = false;
  } else {
    Refuse(client.socket, status,
           IsOfAnotherVersion(message)
               ? AttachRefusal::kVersion
               : ReasonOf(status, request.ok() ? request->table_set : std::string()));
  }
}

absl::Status ShmEndpoint::Lend(Client& client, const ParsedShmRequest& request) {
  const bool wants_ring = request.mode == ShmMode::kRing;
  if (wants_ring && rings_.load() >= kMaxRings) {
    return absl::ResourceExhaustedError(absl::StrCat(
        kMaxRings, " clients have rings of this engramd: detach one, or map the tables"));
  }
  ENGRAM_ASSIGN_OR_RETURN(const uid_t uid, PeerUid(client.socket.get()));
  ENGRAM_ASSIGN_OR_RETURN(
      ShmGrant grant,
      GrantShmRequest(request, *registry_, options_.max_batch_rows,
                      [&](absl::string_view set) { return options_.may_have(uid, set); }));
  client.served = grant.served;
  if (wants_ring) {
    const int socket = client.socket.get();
    // Seen here as the client's end.
    auto on_broken = [socket] { shutdown(socket, SHUT_RDWR); };
    ENGRAM_ASSIGN_OR_RETURN(
        client.ring,
        RingWorker::Start(std::move(grant.ring), client.served, ring_number_++, &rings_,
                          options_.metrics->NewThread(), std::move(on_broken), options_.clock));
  }
  client.has_lease = true;
  client.lease = Lease(client.served.leases, wants_ring ? LeaseKind::kRing : LeaseKind::kMapped);
  return SendMessage(client.socket, ShmGrantMessage(grant), grant.descriptors);
}

}  // namespace engram
