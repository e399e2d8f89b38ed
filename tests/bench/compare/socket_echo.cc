// The raw socket echo: what a Unix socket and TCP themselves can carry of requests and replies as
// large as lookups', one blocking connection and server thread a batch in flight.
//
// socket_echo --unix PATH --tcp-port PORT [--serve]
//   the server with --serve, else the contenders
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/compare/contender.h"

namespace engram::bench {
namespace {

constexpr uint64_t kIdBytes = 4;
constexpr uint64_t kMaxRequestBytes = kMaxTokens * kTokenRows * kIdBytes;
constexpr uint64_t kMaxReplyBytes = kMaxTokens * kTokenBytes;
constexpr int kBacklog = 64;

struct Head {
  uint64_t request_bytes = 0;
  uint64_t reply_bytes = 0;
};

struct Address {
  sockaddr_storage bytes = {};
  socklen_t size = 0;
};

Address UnixAddress(const std::string& path) {
  sockaddr_un unix_address = {};
  unix_address.sun_family = AF_UNIX;
  path.copy(unix_address.sun_path, sizeof(unix_address.sun_path) - 1);
  Address address{.bytes = {}, .size = sizeof(unix_address)};
  std::memcpy(&address.bytes, &unix_address, sizeof(unix_address));
  return address;
}

Address TcpAddress(uint16_t port) {
  sockaddr_in tcp = {};
  tcp.sin_family = AF_INET;
  tcp.sin_port = htons(port);
  tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Address address{.bytes = {}, .size = sizeof(tcp)};
  std::memcpy(&address.bytes, &tcp, sizeof(tcp));
  return address;
}

absl::Status Errno(const std::string& what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

bool ReadAll(int fd, void* to, size_t bytes) {
  for (auto* at = static_cast<char*>(to); bytes > 0;) {
    const ssize_t some = read(fd, at, bytes);
    if (some <= 0) return false;
    at += some;
    bytes -= static_cast<size_t>(some);
  }
  return true;
}

bool WriteAll(int fd, const void* from, size_t bytes) {
  for (const auto* at = static_cast<const char*>(from); bytes > 0;) {
    const ssize_t some = send(fd, at, bytes, MSG_NOSIGNAL);
    if (some <= 0) return false;
    at += some;
    bytes -= static_cast<size_t>(some);
  }
  return true;
}

void SetNoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));  // fails on a Unix socket: no matter
}

void Answer(int fd, const std::vector<char>& reply) {
  std::vector<char> request(kMaxRequestBytes);
  Head head;
  while (ReadAll(fd, &head, sizeof(head)) && head.request_bytes <= request.size() &&
         head.reply_bytes <= reply.size() && ReadAll(fd, request.data(), head.request_bytes) &&
         WriteAll(fd, reply.data(), head.reply_bytes)) {
  }
  close(fd);
}

absl::Status Serve(const Address& address, const std::vector<char>& reply) {
  const int listener = socket(address.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 ||
      bind(listener, reinterpret_cast<const sockaddr*>(&address.bytes), address.size) != 0 ||
      listen(listener, kBacklog) != 0) {
    return Errno("cannot listen");
  }
  while (true) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return Errno("cannot accept");
    SetNoDelay(fd);
    std::thread([fd, &reply] { Answer(fd, reply); }).detach();
  }
}

absl::Status ServeBoth(const std::string& path, uint16_t port) {
  // Not all zeroes: those would be one page.
  static const std::vector<char>& reply = *new std::vector<char>(kMaxReplyBytes, 'e');
  std::thread tcp([port] {
    const absl::Status status = Serve(TcpAddress(port), reply);
    std::exit(Failed("socket_echo", status));
  });
  tcp.detach();
  return Serve(UnixAddress(path), reply);
}

class SocketLane final : public Lane {
 public:
  explicit SocketLane(const Address& address)
      : address_(address), request_(sizeof(Head) + kMaxRequestBytes) {}
  ~SocketLane() override {
    for (const int fd : fds_) {
      if (fd >= 0) close(fd);
    }
  }
  absl::Status Begin(size_t slot, const Batch& batch) override {
    int& fd = fds_[slot];
    if (fd < 0) {
      fd = socket(address_.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0 ||
          connect(fd, reinterpret_cast<const sockaddr*>(&address_.bytes), address_.size) != 0) {
        return Errno("cannot connect");
      }
      SetNoDelay(fd);
    }
    const Head head{.request_bytes = batch.tokens * kTokenRows * kIdBytes,
                    .reply_bytes = batch.tokens * kTokenBytes};
    std::memcpy(request_.data(), &head, sizeof(head));
    return WriteAll(fd, request_.data(), sizeof(head) + head.request_bytes)
               ? absl::OkStatus()
               : Errno("cannot write to the echo");
  }
  absl::Status End(size_t slot, const Batch& batch) override {
    return ReadAll(fds_[slot], batch.landing, batch.tokens * kTokenBytes)
               ? absl::OkStatus()
               : Errno("cannot read from the echo");
  }

 private:
  const Address address_;
  std::vector<char> request_;
  std::array<int, kMaxInFlight> fds_ = {-1, -1, -1, -1, -1, -1, -1, -1};
};

class SocketContender final : public Contender {
 public:
  explicit SocketContender(const Address& address) : address_(address) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    return std::make_unique<SocketLane>(address_);
  }
  bool lands_rows() const override { return false; }

 private:
  const Address address_;
};

int Main(int argc, char** argv) {
  CLI::App app("the raw socket echo, for compare.py");
  bool serve = false;
  std::string path;
  uint16_t port = 0;
  app.add_flag("--serve", serve, "serve instead of measuring");
  app.add_option("--unix", path, "the Unix socket")->required();
  app.add_option("--tcp-port", port, "the port on 127.0.0.1")->required();
  CLI11_PARSE(app, argc, argv);
  if (serve) return Failed("socket_echo", ServeBoth(path, port));
  Contenders contenders;
  contenders["raw-unix"] = std::make_unique<SocketContender>(UnixAddress(path));
  contenders["raw-tcp"] = std::make_unique<SocketContender>(TcpAddress(port));
  return ServeRounds("socket_echo", std::move(contenders), Layers{{{0, 1}, {1, 1}}});
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
