// The Admin service (proto/engram/v1/admin.proto) over the table sets.
//
// By gRPC's callback API, so that no call has a thread: a publication or a scrub has one of its own
// (kMostWorks at most together) for as long as it works, and not while its client takes the answer
// (working_call.h). Every method asks first who calls and whether he may: here it is known from
// where he does. What was asked for is logged with who asked, done or refused. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>
#include <spdlog/logger.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/store/scrubber.h"
#include "proto/engram/v1/admin.grpc.pb.h"
#include "server/admin/open_calls.h"
#include "server/admin/working_call.h"
#include "server/base/life_cycle.h"
#include "server/metrics/admin_refusals.h"
#include "server/security/access.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

// What the services speak for. All outlive the server.
struct AdminTargets {
  TableSetManager* table_sets = nullptr;
  const LifeCycle* life = nullptr;
  Scrubber* scrubber = nullptr;
  AccessControl* access = nullptr;    // asked before every method; without TLS it lets all pass
  AdminRefusals* refusals = nullptr;  // told of what is not done
  const Clock* clock = nullptr;
  std::shared_ptr<spdlog::logger> log;
  // ServerSnapshot::WhyNotReady; empty: it is ready.
  std::function<std::string()> why_not_ready = [] { return std::string(); };
};

class AdminService final : public v1::Admin::CallbackService {
 public:
  // One publication works at a time, and scrubs take from lookups what memory delivers.
  static constexpr int kMostWorks = 4;

  explicit AdminService(const AdminTargets& targets) : targets_(targets) {}
  // Waits for works: their calls are over, or cancelled, by then.
  ~AdminService() override;

  grpc::ServerWriteReactor<v1::PublishProgress>* Publish(
      grpc::CallbackServerContext* context, const v1::PublishRequest* request) override;
  grpc::ServerUnaryReactor* Retire(grpc::CallbackServerContext* context,
                                   const v1::RetireRequest* request,
                                   v1::RetireResponse* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListRequest* request,
                                 v1::ListResponse* response) override;
  grpc::ServerWriteReactor<v1::ScrubReport>* Scrub(grpc::CallbackServerContext* context,
                                                   const v1::ScrubRequest* request) override;

 private:
  using PublishCall = WorkingCall<v1::PublishProgress>;
  using ScrubCall = WorkingCall<v1::ScrubReport>;

  // What a caller is called, and where it is: for the log.
  std::string Who(const grpc::ServerContextBase& context) const;
  // Whether the caller may administer; where not, it is counted and logged.
  absl::Status Admit(const grpc::ServerContextBase& context, AdminMethod method) const;
  // Runs `work` in a thread. RESOURCE_EXHAUSTED: too many work, or the system has no thread.
  absl::Status StartWork(std::function<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status PublishNow(const std::string& directory, std::optional<uint64_t> generation,
                          const std::string& who, PublishCall& call, v1::PublishProgress* last);
  absl::Status ScrubNow(ScrubCall& call, v1::ScrubReport* last);
  void LogScrub(const v1::ScrubReport& report, const absl::Status& status, MonotonicTime begin,
                const std::string& who) const;

  const AdminTargets targets_;
  OpenCalls calls_;
  Mutex mutex_;
  CondVar changed_;
  int works_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace engram
