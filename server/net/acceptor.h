// Takes connections from listening sockets and hands them on, as many as there are descriptors for.
//
// One thread, "accept"; it outlives every shortage: what a process lacks it has again when clients
// let go. A connection too many is closed at once, so that its client hears of it, and others are
// asked to make room, so that it finds some when it comes again.
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/base/clock.h"
#include "server/net/listen_socket.h"

namespace engram {

class Acceptor {
 public:
  // What `take` gets is its own to close: a connection (non-blocking) and the socket that it came
  // from.
  using Take = std::function<void(int listen_fd, int fd)>;
  // Called when one was turned away, now and then however many are; ends what is of the least use.
  using MakeRoom = std::function<void()>;

  // The sockets listen when it returns OK. Connections whose descriptor is `fd_limit` or more are
  // turned away: the kernel gives the lowest that is free, so that many are in use then. `clock`
  // outlives it.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Start(
      std::vector<ListenSocket> sockets, int fd_limit, Take take,
      std::shared_ptr<spdlog::logger> log, const Clock* clock, MakeRoom make_room = [] {});
  // Ends the thread and closes the sockets; `take` is not called any more.
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  Acceptor(std::vector<ListenSocket> sockets, int fd_limit, Take take,
           std::shared_ptr<spdlog::logger> log, const Clock* clock, MakeRoom make_room)
      : sockets_(std::move(sockets)),
        fd_limit_(fd_limit),
        take_(std::move(take)),
        log_(std::move(log)),
        clock_(clock),
        make_room_(std::move(make_room)) {}
  void Run();
  // Whether it is worth asking again at once.
  bool AcceptOne(int listen_fd);
  // A log line now and then, however many are turned away.
  void LogThrottled(const char* why);

  std::vector<ListenSocket> sockets_;
  const int fd_limit_;
  const Take take_;
  const std::shared_ptr<spdlog::logger> log_;
  const Clock* const clock_;
  const MakeRoom make_room_;
  MonotonicTime next_room_;
  int stop_fd_ = -1;  // an eventfd: readable when the thread shall end
  uint64_t turned_away_ = 0;
  MonotonicTime next_log_;
  std::thread thread_;
};

// Takes as many descriptors as the system lets this process have, and returns how many connections'
// worth of them Acceptor may use. FAILED_PRECONDITION when that is too few to serve with.
absl::StatusOr<int> RaiseFileLimit();

}  // namespace engram
