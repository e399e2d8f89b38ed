#include "proto/etcd/etcd_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace engram::etcd {

using std::chrono::nanoseconds;

WatchStream::WatchStream(Client& client, const std::string& key, const std::string& range_end,
                         int64_t from)
    : client_(client) {
  etcdserverpb::WatchCreateRequest& create = *create_.mutable_create_request();
  create.set_key(key);
  create.set_range_end(range_end);
  create.set_start_revision(from);
}

WatchStream::~WatchStream() {
  if (stream_ != nullptr) (void)End(/*in_time=*/true);
}

absl::Status WatchStream::End(bool in_time) {
  if (ended_) return absl::FailedPreconditionError("the watch is over");
  ended_ = true;
  context_.TryCancel();
  client_.TakeUntil(read_, context_, nanoseconds::max());
  grpc::Status status;
  stream_->Finish(&status, operation_.Begin());
  client_.TakeUntil(operation_, context_, nanoseconds::max());
  if (!in_time) status = {grpc::StatusCode::DEADLINE_EXCEEDED, "no answer"};
  // A server that stops ends streams so.
  if (status.ok() ||
      (status.error_code() == grpc::StatusCode::CANCELLED && !client_.stop_.stop_requested())) {
    return absl::UnavailableError(absl::StrCat("etcd at ", client_.endpoint(), " ended the watch"));
  }
  if (client_.IsTokenRefused(status)) client_.ForgetToken();
  return client_.FromGrpc(status);
}

bool WatchStream::Write(const etcdserverpb::WatchRequest& request) {
  stream_->Write(request, operation_.Begin());
  return client_.Await(operation_, context_, client_.options_.now() + kCallTime);
}

absl::Status WatchStream::Start() {
  if (absl::Status login = client_.Login(); !login.ok()) return login;
  client_.Authorize(context_);
  stub_ = etcdserverpb::Watch::NewStub(client_.channel_);
  stream_ = stub_->PrepareAsyncWatch(&context_, &client_.queue_);
  stream_->StartCall(operation_.Begin());
  bool in_time = client_.Await(operation_, context_, client_.options_.now() + kCallTime);
  if (in_time && operation_.ok()) in_time = Write(create_);
  return in_time && operation_.ok() ? absl::OkStatus() : End(in_time);
}

absl::StatusOr<etcdserverpb::WatchResponse> WatchStream::Next() {
  if (ended_) return absl::FailedPreconditionError("the watch is over");
  if (stream_ == nullptr) {
    if (absl::Status status = Start(); !status.ok()) return status;
  }
  stream_->Read(&response_, read_.Begin());
  const auto now = client_.options_.now;
  if (!created_) {
    // It may be created and not known here yet for as long as a call takes.
    if (!client_.TakeUntil(read_, context_, now() + kCallTime)) return End(/*in_time=*/false);
  } else if (!client_.TakeUntil(read_, context_, now() + kSilence)) {
    etcdserverpb::WatchRequest alive;
    alive.mutable_progress_request();
    if (!Write(alive) || !client_.TakeUntil(read_, context_, now() + kSilence)) {
      return End(/*in_time=*/false);
    }
  }
  if (!read_.ok()) return End(/*in_time=*/true);
  created_ = true;
  return response_;
}

}  // namespace engram::etcd
