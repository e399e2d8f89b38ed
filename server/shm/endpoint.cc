#include "server/shm/endpoint.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/os/thread.h"
#include "memstore/os/unix_socket.h"
#include "server/net/listen_socket.h"
#include "server/security/peer_uid.h"

namespace engram {
namespace {

using Clock = std::chrono::steady_clock;

// A client says what it wants at once; one that does not is not waited for.
constexpr std::chrono::seconds kHandshakeTime{5};
constexpr int kTickMs = 1000;
// When the process has no descriptor left for a client, look again after this.
constexpr int kPauseMs = 100;
// Clients that may wait for being taken.
constexpr int kBacklog = 64;
constexpr mode_t kSocketMode = 0660;
// A byte beyond a request's shows that something else came.
constexpr size_t kRequestBuffer = sizeof(ShmRequest) + 1;

absl::Status CannotListen(const std::string& path) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", path, " for shared memory: ", strerrordesc_np(errno)));
}

}  // namespace

// A socket, and what was lent over it. The ring ends first: it closes over the socket.
struct ShmEndpoint::Client {
  FileDescriptor socket;
  Clock::time_point since;
  bool has_lease = false;
  bool ended = false;
  ServedSet served;
  Lease lease;
  std::unique_ptr<RingWorker> ring;
};

absl::StatusOr<std::unique_ptr<ShmEndpoint>> ShmEndpoint::Start(const ShmEndpointOptions& options,
                                                                const Store* store) {
  std::unique_ptr<ShmEndpoint> endpoint(new ShmEndpoint(options, store));
  endpoint->stop_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!endpoint->stop_.is_open()) return CannotListen(options.socket_path);
  if (absl::Status status = endpoint->Bind(); !status.ok()) return status;
  absl::StatusOr<std::thread> thread =
      StartThread("engram-shm", [raw = endpoint.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  endpoint->thread_ = *std::move(thread);
  return endpoint;
}

ShmEndpoint::ShmEndpoint(const ShmEndpointOptions& options, const Store* store)
    : options_(options), store_(store) {}

absl::Status ShmEndpoint::Bind() {
  const std::string& path = options_.socket_path;
  sockaddr_un address;
  if (!MakeUnixAddress(path, &address)) {
    return absl::InvalidArgumentError(absl::StrCat("the path of a socket has 1 to ",
                                                   sizeof(address.sun_path) - 1, " bytes: ", path));
  }
  absl::Status status = CheckCanListen({.host = {}, .port = {}, .unix_path = path});
  if (!status.ok()) return status;
  listener_ = FileDescriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.is_open()) return CannotListen(path);
  if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return CannotListen(path);
  }
  struct stat there;
  if (stat(path.c_str(), &there) != 0) return CannotListen(path);
  inode_ = there.st_ino;
  device_ = there.st_dev;
  // Before listen(), so that nobody connects on terms of the umask.
  if (chmod(path.c_str(), kSocketMode) != 0 || listen(listener_.get(), kBacklog) != 0) {
    return CannotListen(path);
  }
  return absl::OkStatus();
}

ShmEndpoint::~ShmEndpoint() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(stop_.get(), &one, sizeof(one));
    thread_.join();
  }
  // Removed while it still listens: a successor that finds it waits for neither.
  struct stat there;
  if (inode_ != 0 && lstat(options_.socket_path.c_str(), &there) == 0 && there.st_ino == inode_ &&
      there.st_dev == device_) {
    unlink(options_.socket_path.c_str());
  }
  for (const auto& client : lent_) {
    if (client->has_lease) client->served.control->Advance(SetState::kGone);
  }
}

void ShmEndpoint::Run() {
  std::vector<pollfd> wait;
  while (true) {
    wait.assign({{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}});
    for (const auto& client : lent_) wait.push_back({client->socket.get(), POLLIN, 0});
    if (poll(wait.data(), wait.size(), kTickMs) < 0) {
      // ENOMEM passes, or not; EINTR has nothing to wait for.
      if (errno != EINTR) std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      continue;
    }
    if (wait[0].revents != 0) return;
    const auto now = Clock::now();
    for (size_t i = 0; i < lent_.size(); ++i) {
      Client& client = *lent_[i];
      if (wait[i + 2].revents != 0) {
        Hear(client);
      } else if (!client.has_lease && now - client.since > kHandshakeTime) {
        client.ended = true;
      }
    }
    DropEnded();
    if (wait[1].revents != 0) Accept();
  }
}

void ShmEndpoint::DropEnded() {
  lent_.erase(
      std::remove_if(lent_.begin(), lent_.end(), [](const auto& client) { return client->ended; }),
      lent_.end());
  clients_.store(static_cast<uint32_t>(lent_.size()));
}

void ShmEndpoint::Accept() {
  FileDescriptor socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.is_open()) {
    // Out of descriptors: the one that waits stays, and poll would return at once.
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      pollfd stop{stop_.get(), POLLIN, 0};
      poll(&stop, 1, kPauseMs);
    }
    return;
  }
  absl::Status status = CheckPeerUid(socket.get(), options_.allowed_uids,
                                     "have this engramd's shared memory", "--shm-allow-uid");
  if (!status.ok()) return Refuse(socket, status);
  if (lent_.size() >= kMaxShmClients) {
    return Refuse(socket, absl::ResourceExhaustedError(
                              absl::StrCat(kMaxShmClients,
                                           " clients have shared memory of this engramd: "
                                           "detach one first")));
  }
  auto client = std::make_unique<Client>();
  client->socket = std::move(socket);
  client->since = Clock::now();
  lent_.push_back(std::move(client));
  clients_.store(static_cast<uint32_t>(lent_.size()));
}

void ShmEndpoint::Refuse(const FileDescriptor& socket, const absl::Status& status) {
  const ShmReply reply = ShmErrorReply(status);
  // A client that is gone already needs no answer.
  static_cast<void>(
      SendMessage(socket, {reinterpret_cast<const std::byte*>(&reply), sizeof(reply)}, {}));
}

// Something came from a client: a request, or, once it has its lease, its end (a lease has nothing
// to say, and whoever says something breaks it).
void ShmEndpoint::Hear(Client& client) {
  std::byte bytes[kRequestBuffer];
  const absl::StatusOr<SocketMessage> received = ReceiveMessage(client.socket, bytes, 0);
  if (absl::IsAborted(received.status())) return;
  client.ended = true;
  if (!received.ok() || client.has_lease) return;
  const absl::Status status =
      Lend(client, ReadShmRequest({bytes, std::min(received->bytes, sizeof(bytes))}));
  if (status.ok()) {
    client.ended = false;
  } else {
    Refuse(client.socket, status);
  }
}

absl::Status ShmEndpoint::Lend(Client& client, absl::StatusOr<ShmAsked> asked) {
  if (!asked.ok()) return asked.status();
  if (asked->mode == ShmMode::kRing && rings_.load() >= kMaxRings) {
    return absl::ResourceExhaustedError(absl::StrCat(
        kMaxRings, " clients have rings of this engramd: detach one, or map the tables"));
  }
  absl::StatusOr<ShmAnswer> answer = AnswerShmRequest(*asked, *store_, options_.max_batch_rows);
  if (!answer.ok()) return answer.status();
  absl::Status status = options_.may_have(answer->served.set->name());
  if (!status.ok()) return status;
  client.served = answer->served;
  if (asked->mode == ShmMode::kRing) {
    const int socket = client.socket.get();
    // Seen here as the client's end.
    auto on_broken = [socket] { shutdown(socket, SHUT_RDWR); };
    absl::StatusOr<std::unique_ptr<RingWorker>> ring =
        RingWorker::Start(std::move(answer->ring), client.served, ring_number_++, &rings_,
                          options_.metrics->NewThread(), std::move(on_broken));
    if (!ring.ok()) return ring.status();
    client.ring = *std::move(ring);
  }
  client.has_lease = true;
  client.lease = Lease(client.served.leases,
                       asked->mode == ShmMode::kRing ? LeaseKind::kRing : LeaseKind::kMapped);
  return SendMessage(client.socket,
                     {reinterpret_cast<const std::byte*>(&answer->reply), sizeof(answer->reply)},
                     answer->descriptors);
}

}  // namespace engram
