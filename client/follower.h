// Follows a served name: a client of the table set that the name leads to, step by step.
//
//   auto follower = engram::Follower::Attach("grpc:store:7300", {.table_set = "v4.1-flash"}, {});
//   while (decoding) {
//     std::shared_ptr<engram::Client> client = (*follower)->BeginStep();
//     ... everything of this step through `client` ...
//   }
//
// When another set of that name is published, a thread of the follower's ("engram-follow") attaches
// to it; the next BeginStep returns the new client. A step that was begun goes on with its own: no
// batch, and no step, mixes sets. The old client goes, its tickets reaped and its lease ended, with
// the last step that holds it. So steps in flight may be on different sets; what a caller keeps
// from step to step (buffers laid out by the manifest, addresses) is looked at anew when the client
// changed: compare pointers. SequenceState holds token ids as the set's token map has them: after a
// change of set, start sequences again from their last tokens (Addresser::Start and the tokens
// before). Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/client.h"
#include "memstore/base/mutex.h"

namespace engram {

class Follower {
 public:
  // Called with a new client before any step gets it, the first one included: for registering
  // buffers, for sizing them. An error keeps the client before it, and is tried again.
  using Prepare = std::function<absl::Status(Client&)>;

  // Client::Attach has the errors, and Prepare. An id as table_set is followed to no other set;
  // embedded: has nothing to follow.
  static absl::StatusOr<std::unique_ptr<Follower>> Attach(absl::string_view target,
                                                          const AttachOptions& options,
                                                          Prepare prepare);
  // Ends the thread; clients that steps hold stay.
  ~Follower();

  // Cost: a lock and a reference count.
  std::shared_ptr<Client> BeginStep();
  // Why it does not follow now: OK while it does, or has nothing to follow.
  absl::Status status() const;

 private:
  Follower(std::string target, AttachOptions options, Prepare prepare)
      : target_(std::move(target)), options_(std::move(options)), prepare_(std::move(prepare)) {}
  absl::StatusOr<std::shared_ptr<Client>> AttachNext();
  void Run(const std::stop_token& stop);
  // Why it does not follow now.
  void SetStatus(absl::Status status);
  // What steps get from now on.
  void SetClient(std::shared_ptr<Client> client);

  const std::string target_;
  AttachOptions options_;
  const Prepare prepare_;
  mutable Mutex mutex_;
  std::shared_ptr<Client> client_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::stop_source stop_;
  std::thread thread_;
};

}  // namespace engram
