#include "server/net/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "server/base/limits.h"
#include "server/base/log.h"

namespace engram {
namespace {

// How long a shortage of descriptors or memory is left alone before it is looked at again.
constexpr int kPauseMs = 50;
// Between looks for connections that can go, each of which is a system call or two for every one.
constexpr absl::Duration kRoomInterval = absl::Milliseconds(100);
// Between lines about connections that were turned away, however many are.
constexpr absl::Duration kLogInterval = absl::Seconds(5);

// Of one connection that was gone before it was taken; accept(2) lists them.
bool IsOfThePeer(int error) {
  switch (error) {
    case EAGAIN:
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

// A peer whose machine is gone is found out after kKeepAliveIdle and a few tries, so that what is
// kept for it goes too. Has no effect on a Unix socket.
void KeepAlive(int fd) {
  const auto set = [fd](int level, int option, int64_t value) {
    const int number = static_cast<int>(value);
    setsockopt(fd, level, option, &number, sizeof(number));
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdle.count());
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveInterval.count());
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Start(std::vector<ListenSocket> sockets,
                                                          int fd_limit, Take take,
                                                          std::shared_ptr<spdlog::logger> log,
                                                          const Clock* clock, MakeRoom make_room) {
  std::unique_ptr<Acceptor> acceptor(new Acceptor(std::move(sockets), fd_limit, std::move(take),
                                                  std::move(log), clock, std::move(make_room)));
  acceptor->stop_fd_ = eventfd(0, EFD_CLOEXEC);
  if (acceptor->stop_fd_ < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("no eventfd: ", strerrordesc_np(errno)));
  }
  for (ListenSocket& socket : acceptor->sockets_) {
    ENGRAM_RETURN_IF_ERROR(socket.Listen());
  }
  ENGRAM_ASSIGN_OR_RETURN(acceptor->thread_,
                          StartThread("accept", [one = acceptor.get()] { one->Run(); }));
  return acceptor;
}

Acceptor::~Acceptor() {
  if (thread_.joinable()) {
    eventfd_write(stop_fd_, 1);
    thread_.join();
  }
  if (stop_fd_ >= 0) close(stop_fd_);
}

void Acceptor::Run() {
  std::vector<pollfd> ready = {{.fd = stop_fd_, .events = POLLIN, .revents = 0}};
  for (const ListenSocket& socket : sockets_) {
    ready.push_back({.fd = socket.fd(), .events = POLLIN, .revents = 0});
  }
  while (true) {
    bool go_on = true;
    if (poll(ready.data(), ready.size(), -1) < 0) {
      // ENOMEM passes, or not; EINTR has nothing to wait for.
      go_on = errno == EINTR;
      for (pollfd& one : ready) one.revents = 0;
    }
    if (ready[0].revents != 0) return;
    // One of each at a time, so that no address is served at the cost of another.
    for (size_t i = 1; i < ready.size(); ++i) {
      if (ready[i].revents != 0) go_on = AcceptOne(ready[i].fd) && go_on;
    }
    if (!go_on) poll(ready.data(), 1, kPauseMs);
  }
}

bool Acceptor::AcceptOne(int listen_fd) {
  const int fd = accept4(listen_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (IsOfThePeer(errno)) return true;
    LogThrottled(strerrordesc_np(errno));
    return false;
  }
  if (fd < fd_limit_) {
    KeepAlive(fd);
    take_(listen_fd, fd);
    return true;
  }
  close(fd);
  LogThrottled("there are as many as engramd takes");
  if (const MonotonicTime now = clock_->Now(); now >= next_room_) {
    next_room_ = now + kRoomInterval;
    make_room_();
  }
  return true;
}

void Acceptor::LogThrottled(const char* why) {
  ++turned_away_;
  const MonotonicTime now = clock_->Now();
  if (now < next_log_) return;
  next_log_ = now + kLogInterval;
  LogEvent(*log_, spdlog::level::warn, "connections_turned_away",
           {{"connections", turned_away_}, {"descriptors", fd_limit_}, {"reason", why}},
           absl::StrCat("cannot take a connection (", turned_away_, " so far): ", why, "; ",
                        fd_limit_, " descriptors are for connections: let idle clients go, or ",
                        "raise the limit of open files (ulimit -n, LimitNOFILE=)"));
}

absl::StatusOr<int> RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return absl::InternalError(absl::StrCat("getrlimit: ", strerrordesc_np(errno)));
  }
  rlimit raised = limit;
  raised.rlim_cur = raised.rlim_max;
  // Refused, the limit stays what it was.
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  if (limit.rlim_cur < 2 * kSpareFiles) {
    return absl::FailedPreconditionError(
        absl::StrCat("this process may open ", limit.rlim_cur, " files: engramd needs ",
                     2 * kSpareFiles, " or more; raise the limit (ulimit -n, LimitNOFILE=)"));
  }
  return static_cast<int>(
      std::min<rlim_t>(limit.rlim_cur - kSpareFiles, kSpareFiles + kMaxConnections));
}

}  // namespace engram
