// How many calls of a service are under way, to the last byte of their replies.
//
// Hung into a server as an interceptor; the count is kept by whoever drains. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_interceptor.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace engram {

class CallCount : public std::enable_shared_from_this<CallCount> {
 public:
  // Counts the calls of `service` ("engram.v1.Lookup") alone: one that watches health never ends.
  static std::shared_ptr<CallCount> Of(const std::string& service);
  // For grpc::ServerBuilder; keeps the count alive.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> Factory();

  // Whether none is under way; waits for that until `deadline`.
  bool WaitUntilNone(std::chrono::system_clock::time_point deadline);
  // How many have begun, ever.
  uint64_t begun();

 private:
  class PerCall;
  class PerServer;
  explicit CallCount(std::string prefix) : prefix_(std::move(prefix)) {}
  void Enter();
  void Leave();

  const std::string prefix_;  // of a counted method's path
  std::mutex mutex_;
  std::condition_variable none_;
  uint64_t calls_ = 0;  // guarded by mutex_
  uint64_t begun_ = 0;  // guarded by mutex_
};

}  // namespace engram
