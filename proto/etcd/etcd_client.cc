#include "proto/etcd/etcd_client.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/take_event.h"

namespace engram::etcd {
namespace {

using std::chrono::nanoseconds;

// How often files of TLS are looked at.
constexpr unsigned kRefreshSeconds = 1;
// How long a thread sleeps in a queue before it looks at the time: `now` may be no clock of gRPC's,
// and gRPC may sleep by the wall clock.
constexpr std::chrono::seconds kLook{1};
// Of what etcd says, in messages.
constexpr size_t kMaxWordsBytes = 500;

std::string Words(const grpc::Status& status) {
  return absl::CHexEscape(absl::string_view(status.error_message()).substr(0, kMaxWordsBytes));
}

bool Says(const grpc::Status& status, absl::string_view word) {
  return absl::StrContains(absl::AsciiStrToLower(status.error_message()), word);
}

// Whether this side refuses etcd's certificate: no time mends that. There is no code for it.
bool IsStranger(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         (Says(status, "certificate verify failed") || Says(status, "certificate_verify_failed") ||
          Says(status, "verification check"));
}

// What to do about a connection that failed, by gRPC's words for it: there is one code for all.
absl::string_view Hint(const grpc::Status& status, bool tls) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return "";
  if (Says(status, "connection refused")) return "is it running there? ";
  if (tls && (IsStranger(status) || Says(status, "handshake") || Says(status, "ssl_") ||
              Says(status, "socket closed"))) {
    return "no TLS with it: is the authority right, is its certificate for this host, and does it "
           "take the one that is shown? ";
  }
  if (!tls && (Says(status, "socket closed") || Says(status, "connection reset") ||
               Says(status, "http1"))) {
    return "does it speak TLS? Then the authority of its certificate is needed. ";
  }
  return "";
}

std::shared_ptr<grpc::Channel> OpenChannel(
    const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const std::string& server_name) {
  grpc::ChannelArguments arguments;
  if (!server_name.empty()) arguments.SetSslTargetNameOverride(server_name);
  // Each channel connects by itself: a new one after a failure does not inherit a time to wait.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A proxy of the environment is for the web.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Calls have deadlines, and a watch asks for signs of life.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, std::numeric_limits<int>::max());
  return grpc::CreateCustomChannel(endpoint, credentials, arguments);
}

}  // namespace

std::shared_ptr<grpc::ChannelCredentials> MakeCredentials(const std::string& authorities,
                                                          const std::string& pair) {
  if (authorities.empty()) return grpc::InsecureChannelCredentials();
  using grpc::experimental::FileWatcherCertificateProvider;
  grpc::experimental::TlsChannelCredentialsOptions tls;
  tls.set_certificate_provider(
      std::make_shared<FileWatcherCertificateProvider>(pair, pair, authorities, kRefreshSeconds));
  tls.watch_root_certs();
  if (!pair.empty()) tls.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(tls);
}

Client::Client(ClientOptions options, std::stop_token stop)
    : options_(std::move(options)), stop_(std::move(stop)) {
  Connect();
}

Client::~Client() {
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) rpc::QueueEvent::Dispatch(tag, ok);
}

void Client::Connect() {
  channel_ = OpenChannel(endpoint(), options_.credentials, options_.server_name);
}

void Client::NextEndpoint() {
  at_ = (at_ + 1) % options_.endpoints.size();
  Connect();
}

void Client::ForgetToken() {
  token_.clear();
  asked_for_token_ = false;
}

bool Client::TakeUntil(Operation& operation, grpc::ClientContext& context, nanoseconds deadline) {
  const std::stop_callback cancel(stop_, [&context] { context.TryCancel(); });
  while (operation.under_way()) {
    const nanoseconds left = deadline - options_.now();
    if (left <= nanoseconds(0)) return false;
    void* tag = nullptr;
    bool ok = false;
    if (rpc::TakeEvent(queue_, &tag, &ok, std::min<nanoseconds>(left, kLook)) ==
        grpc::CompletionQueue::GOT_EVENT) {
      rpc::QueueEvent::Dispatch(tag, ok);
    }
  }
  return true;
}

bool Client::Await(Operation& operation, grpc::ClientContext& context, nanoseconds deadline) {
  if (TakeUntil(operation, context, deadline)) return true;
  context.TryCancel();
  TakeUntil(operation, context, nanoseconds::max());
  return false;
}

template <typename Response>
grpc::Status Client::Finish(grpc::ClientContext& context,
                            grpc::ClientAsyncResponseReader<Response>& reader, Response* response) {
  Operation finish;
  grpc::Status status;
  reader.StartCall();
  reader.Finish(response, &status, finish.Begin());
  if (Await(finish, context, options_.now() + kCallTime)) return status;
  return status.ok() ? status : grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "no answer");
}

absl::Status Client::FromGrpc(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(
        absl::StrCat("etcd at ", endpoint(), " does not answer within ", kCallTime.count(), " s"));
  }
  if (options_.user.empty() && absl::StrContains(status.error_message(), "user name is empty")) {
    return absl::UnauthenticatedError(
        absl::StrCat("etcd at ", endpoint(),
                     " wants to know who asks: give a user that it has, and the file of the "
                     "password (",
                     Words(status), ")"));
  }
  const absl::StatusCode code = IsStranger(status)
                                    ? absl::StatusCode::kUnauthenticated
                                    : static_cast<absl::StatusCode>(status.error_code());
  return absl::Status(code, absl::StrCat("etcd at ", endpoint(), ": ", Hint(status, options_.tls),
                                         "(", Words(status), ")"));
}

absl::Status Client::Login() {
  if (options_.user.empty() || asked_for_token_) return absl::OkStatus();
  absl::StatusOr<std::string> password = options_.password();
  if (!password.ok()) return password.status();
  etcdserverpb::AuthenticateRequest request;
  request.set_name(options_.user);
  request.set_password(*std::move(password));
  etcdserverpb::AuthenticateResponse response;
  grpc::ClientContext context;
  const auto stub = etcdserverpb::Auth::NewStub(channel_);
  const auto reader = stub->PrepareAsyncAuthenticate(&context, request, &queue_);
  const grpc::Status status = Finish(context, *reader, &response);
  // It has no users, and asks nobody who he is.
  const bool no_users = status.error_code() == grpc::StatusCode::FAILED_PRECONDITION;
  if (!status.ok() && !no_users) {
    if (status.error_code() != grpc::StatusCode::INVALID_ARGUMENT) return FromGrpc(status);
    return absl::UnauthenticatedError(absl::StrCat("etcd at ", endpoint(), " refuses user ",
                                                   absl::CHexEscape(options_.user), ": ",
                                                   Words(status)));
  }
  // gRPC ends the process for a header that is none.
  if (!absl::c_all_of(response.token(), [](unsigned char c) { return absl::ascii_isgraph(c); })) {
    return absl::InternalError(
        absl::StrCat("etcd at ", endpoint(), " gave a token that no header may hold"));
  }
  token_ = response.token();
  asked_for_token_ = true;
  return absl::OkStatus();
}

void Client::Authorize(grpc::ClientContext& context) const {
  if (!token_.empty()) context.AddMetadata("token", token_);
}

bool Client::IsTokenRefused(const grpc::Status& status) const {
  if (options_.user.empty() || status.ok()) return false;
  if (status.error_code() == grpc::StatusCode::UNAUTHENTICATED) return true;
  // One of before users or rights changed; none, where etcd has users since.
  return absl::StrContains(status.error_message(), "revision of auth store is old") ||
         absl::StrContains(status.error_message(), "user name is empty");
}

absl::Status Client::Call(Try once) {
  for (bool again = false;; again = true) {
    if (absl::Status login = Login(); !login.ok()) return login;
    grpc::ClientContext context;
    Authorize(context);
    const grpc::Status status = once(context);
    if (again || !IsTokenRefused(status)) return FromGrpc(status);
    ForgetToken();
  }
}

absl::StatusOr<etcdserverpb::RangeResponse> Client::Range(
    const etcdserverpb::RangeRequest& request) {
  etcdserverpb::RangeResponse response;
  absl::Status status = Call([&](grpc::ClientContext& context) {
    const auto stub = etcdserverpb::KV::NewStub(channel_);
    const auto reader = stub->PrepareAsyncRange(&context, request, &queue_);
    return Finish(context, *reader, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<etcdserverpb::PutResponse> Client::Put(const etcdserverpb::PutRequest& request) {
  etcdserverpb::PutResponse response;
  absl::Status status = Call([&](grpc::ClientContext& context) {
    const auto stub = etcdserverpb::KV::NewStub(channel_);
    const auto reader = stub->PrepareAsyncPut(&context, request, &queue_);
    return Finish(context, *reader, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<int64_t> Client::GrantLease(std::chrono::seconds time) {
  etcdserverpb::LeaseGrantRequest request;
  request.set_ttl(time.count());
  etcdserverpb::LeaseGrantResponse response;
  absl::Status status = Call([&](grpc::ClientContext& context) {
    const auto stub = etcdserverpb::Lease::NewStub(channel_);
    const auto reader = stub->PrepareAsyncLeaseGrant(&context, request, &queue_);
    return Finish(context, *reader, &response);
  });
  if (!status.ok()) return status;
  if (!response.error().empty() || response.id() == 0) {
    return absl::InternalError(absl::StrCat(
        "etcd at ", endpoint(), " grants no lease: ", absl::CHexEscape(response.error())));
  }
  return response.id();
}

grpc::Status Client::KeepAliveOnce(grpc::ClientContext& context, int64_t lease,
                                   int64_t* seconds_left) {
  const auto stub = etcdserverpb::Lease::NewStub(channel_);
  const auto stream = stub->PrepareAsyncLeaseKeepAlive(&context, &queue_);
  const nanoseconds deadline = options_.now() + kCallTime;
  bool in_time = true;
  const auto done = [&](absl::FunctionRef<void(void* tag)> begin) {
    Operation operation;
    begin(operation.Begin());
    in_time = Await(operation, context, deadline) && in_time;
    return operation.ok();
  };
  etcdserverpb::LeaseKeepAliveRequest request;
  request.set_id(lease);
  etcdserverpb::LeaseKeepAliveResponse response;
  const bool answered = done([&](void* tag) { stream->StartCall(tag); }) &&
                        done([&](void* tag) { stream->Write(request, tag); }) &&
                        done([&](void* tag) { stream->Read(&response, tag); });
  if (answered) done([&](void* tag) { stream->WritesDone(tag); });
  grpc::Status status;
  done([&](void* tag) { stream->Finish(&status, tag); });
  if (answered) {
    *seconds_left = response.ttl();
    return grpc::Status::OK;
  }
  if (!in_time || status.ok()) return {grpc::StatusCode::DEADLINE_EXCEEDED, "no answer"};
  return status;
}

absl::Status Client::KeepAlive(int64_t lease) {
  int64_t seconds_left = 0;
  absl::Status status = Call(
      [&](grpc::ClientContext& context) { return KeepAliveOnce(context, lease, &seconds_left); });
  if (!status.ok() || seconds_left > 0) return status;
  return absl::NotFoundError(absl::StrCat("etcd at ", endpoint(), " has the lease no more"));
}

absl::Status Client::RevokeLease(int64_t lease) {
  etcdserverpb::LeaseRevokeRequest request;
  request.set_id(lease);
  etcdserverpb::LeaseRevokeResponse response;
  return Call([&](grpc::ClientContext& context) {
    const auto stub = etcdserverpb::Lease::NewStub(channel_);
    const auto reader = stub->PrepareAsyncLeaseRevoke(&context, request, &queue_);
    return Finish(context, *reader, &response);
  });
}

}  // namespace engram::etcd
