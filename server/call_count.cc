#include "server/call_count.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace engram {

// gRPC destroys it when the call is over: its status is sent, or its connection is gone.
class CallCount::PerCall : public grpc::experimental::Interceptor {
 public:
  explicit PerCall(std::shared_ptr<CallCount> count) : count_(std::move(count)) { count_->Enter(); }
  ~PerCall() override { count_->Leave(); }
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    methods->Proceed();
  }

 private:
  const std::shared_ptr<CallCount> count_;
};

class CallCount::PerServer : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit PerServer(std::shared_ptr<CallCount> count) : count_(std::move(count)) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return absl::StartsWith(info->method(), count_->prefix_) ? new PerCall(count_) : nullptr;
  }

 private:
  const std::shared_ptr<CallCount> count_;
};

std::shared_ptr<CallCount> CallCount::Of(const std::string& service) {
  return std::shared_ptr<CallCount>(new CallCount(absl::StrCat("/", service, "/")));
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CallCount::Factory() {
  return std::make_unique<PerServer>(shared_from_this());
}

bool CallCount::WaitUntilNone(std::chrono::system_clock::time_point deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  return none_.wait_until(lock, deadline, [this] { return calls_ == 0; });
}

uint64_t CallCount::begun() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return begun_;
}

void CallCount::Enter() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++calls_;
  ++begun_;
}

void CallCount::Leave() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (--calls_ == 0) none_.notify_all();
}

}  // namespace engram
