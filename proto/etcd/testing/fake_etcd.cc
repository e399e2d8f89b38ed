#include "proto/etcd/testing/fake_etcd.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram::etcd {

using grpc::Status;
using grpc::StatusCode;
using Lock = std::unique_lock<std::mutex>;

class FakeEtcd::KvService final : public etcdserverpb::KV::Service {
 public:
  explicit KvService(FakeEtcd* etcd) : etcd_(*etcd) {}

  Status Range(grpc::ServerContext* context, const etcdserverpb::RangeRequest* request,
               etcdserverpb::RangeResponse* response) override {
    Lock lock(etcd_.mutex_);
    ++etcd_.ranges_;
    etcd_.changed_.notify_all();
    if (Status status = etcd_.CheckToken(*context); !status.ok()) return status;
    etcd_.SetHeader(response->mutable_header());
    const std::string end =
        request->range_end().empty() ? request->key() + '\0' : request->range_end();
    for (auto at = etcd_.keys_.lower_bound(request->key());
         at != etcd_.keys_.end() && at->first < end; ++at) {
      response->set_count(response->count() + 1);
      if (!request->count_only()) *response->add_kvs() = at->second;
    }
    return Status::OK;
  }

  Status Put(grpc::ServerContext* context, const etcdserverpb::PutRequest* request,
             etcdserverpb::PutResponse* response) override {
    Lock lock(etcd_.mutex_);
    if (Status status = etcd_.CheckToken(*context); !status.ok()) return status;
    if (request->lease() != 0 && !etcd_.leases_.contains(request->lease())) {
      return {StatusCode::NOT_FOUND, "etcdserver: requested lease not found"};
    }
    mvccpb::Event event;
    event.mutable_kv()->set_key(request->key());
    event.mutable_kv()->set_value(request->value());
    event.mutable_kv()->set_lease(request->lease());
    etcd_.Record(event);
    etcd_.SetHeader(response->mutable_header());
    return Status::OK;
  }

 private:
  FakeEtcd& etcd_;
};

class FakeEtcd::WatchService final : public etcdserverpb::Watch::Service {
 public:
  explicit WatchService(FakeEtcd* etcd) : etcd_(*etcd) {}

  using Stream = grpc::ServerReaderWriter<etcdserverpb::WatchResponse, etcdserverpb::WatchRequest>;

  Status Watch(grpc::ServerContext* context, Stream* stream) override {
    etcdserverpb::WatchRequest request;
    if (!stream->Read(&request)) return Status::OK;
    bool closed = false, asked = false;  // etcd_.mutex_
    std::thread reader([&] {
      etcdserverpb::WatchRequest next;
      bool more = true;
      while (more) {
        more = stream->Read(&next);
        Lock lock(etcd_.mutex_);
        (more ? asked : closed) = true;
        etcd_.changed_.notify_all();
      }
    });
    const Status status = Serve(*context, *stream, request.create_request(), closed, asked);
    // Ends the reader, too.
    if (!status.ok()) context->TryCancel();
    reader.join();
    return status;
  }

 private:
  Status Serve(grpc::ServerContext& context, Stream& stream,
               const etcdserverpb::WatchCreateRequest& create, const bool& closed, bool& asked) {
    Lock lock(etcd_.mutex_);
    const uint64_t breaks = etcd_.break_;
    etcd_.watched_from_.push_back(create.start_revision());
    etcd_.changed_.notify_all();
    etcdserverpb::WatchResponse created;
    etcd_.SetHeader(created.mutable_header());
    created.set_created(true);
    // As etcd does for whom it does not know: by the response, not by a status.
    const bool refused = !etcd_.CheckToken(context).ok();
    if (refused) {
      created.set_canceled(true);
      created.set_cancel_reason("rpc error: code = PermissionDenied");
    }
    if (!Write(stream, created, lock)) return {StatusCode::UNAVAILABLE, "gone"};
    if (!refused && create.start_revision() <= etcd_.compacted_) {
      etcdserverpb::WatchResponse compacted;
      etcd_.SetHeader(compacted.mutable_header());
      compacted.set_canceled(true);
      compacted.set_compact_revision(etcd_.compacted_ + 1);
      Write(stream, compacted, lock);
    }
    int64_t next = create.start_revision();
    while (!closed && !etcd_.stopping_ && etcd_.break_ == breaks) {
      etcdserverpb::WatchResponse response;
      for (const mvccpb::Event& event : etcd_.events_) {
        if (event.kv().mod_revision() < next || event.kv().key() < create.key() ||
            event.kv().key() >= create.range_end()) {
          continue;
        }
        *response.add_events() = event;
      }
      next = std::max(next, etcd_.revision_ + 1);
      if (response.events().empty() && !asked) {
        etcd_.changed_.wait(lock);
        continue;
      }
      asked = false;
      etcd_.SetHeader(response.mutable_header());
      if (!Write(stream, response, lock)) break;
    }
    return {StatusCode::UNAVAILABLE, "broken"};
  }

  static bool Write(Stream& stream, const etcdserverpb::WatchResponse& response, Lock& lock) {
    lock.unlock();
    const bool written = stream.Write(response);
    lock.lock();
    return written;
  }

  FakeEtcd& etcd_;
};

class FakeEtcd::LeaseService final : public etcdserverpb::Lease::Service {
 public:
  explicit LeaseService(FakeEtcd* etcd) : etcd_(*etcd) {}

  Status LeaseGrant(grpc::ServerContext* context, const etcdserverpb::LeaseGrantRequest* request,
                    etcdserverpb::LeaseGrantResponse* response) override {
    Lock lock(etcd_.mutex_);
    if (Status status = etcd_.CheckToken(*context); !status.ok()) return status;
    response->set_id(etcd_.next_lease_++);
    response->set_ttl(request->ttl());
    etcd_.leases_.insert(response->id());
    return Status::OK;
  }

  Status LeaseRevoke(grpc::ServerContext* context, const etcdserverpb::LeaseRevokeRequest* request,
                     etcdserverpb::LeaseRevokeResponse*) override {
    Lock lock(etcd_.mutex_);
    if (Status status = etcd_.CheckToken(*context); !status.ok()) return status;
    if (etcd_.leases_.erase(request->id()) == 0) return {StatusCode::NOT_FOUND, "no such lease"};
    std::vector<std::string> gone;
    for (const auto& [key, value] : etcd_.keys_) {
      if (value.lease() == request->id()) gone.push_back(key);
    }
    for (const std::string& key : gone) etcd_.DeleteLocked(key);
    return Status::OK;
  }

  Status LeaseKeepAlive(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<etcdserverpb::LeaseKeepAliveResponse,
                               etcdserverpb::LeaseKeepAliveRequest>* stream) override {
    etcdserverpb::LeaseKeepAliveRequest request;
    while (stream->Read(&request)) {
      etcdserverpb::LeaseKeepAliveResponse response;
      {
        Lock lock(etcd_.mutex_);
        if (Status status = etcd_.CheckToken(*context); !status.ok()) return status;
        response.set_id(request.id());
        response.set_ttl(etcd_.leases_.contains(request.id()) ? 10 : 0);
        ++etcd_.keep_alives_;
        etcd_.changed_.notify_all();
      }
      stream->Write(response);
    }
    return Status::OK;
  }

 private:
  FakeEtcd& etcd_;
};

class FakeEtcd::AuthService final : public etcdserverpb::Auth::Service {
 public:
  explicit AuthService(FakeEtcd* etcd) : etcd_(*etcd) {}

  Status Authenticate(grpc::ServerContext*, const etcdserverpb::AuthenticateRequest* request,
                      etcdserverpb::AuthenticateResponse* response) override {
    Lock lock(etcd_.mutex_);
    const uint64_t number = ++etcd_.authentications_;
    etcd_.changed_.notify_all();
    if (etcd_.user_.empty()) {
      return {StatusCode::FAILED_PRECONDITION, "etcdserver: authentication is not enabled"};
    }
    if (request->name() != etcd_.user_ || request->password() != etcd_.password_) {
      return {StatusCode::INVALID_ARGUMENT,
              "etcdserver: authentication failed, invalid user ID or password"};
    }
    response->set_token(absl::StrCat("token.", number));
    etcd_.tokens_.insert(response->token());
    return Status::OK;
  }

 private:
  FakeEtcd& etcd_;
};

FakeEtcd::FakeEtcd()
    : kv_(std::make_unique<KvService>(this)),
      watch_(std::make_unique<WatchService>(this)),
      lease_(std::make_unique<LeaseService>(this)),
      auth_(std::make_unique<AuthService>(this)) {
  Start();
}

FakeEtcd::~FakeEtcd() { Stop(); }

std::string FakeEtcd::endpoint() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeEtcd::Start() {
  {
    Lock lock(mutex_);
    stopping_ = false;
  }
  grpc::ServerBuilder builder;
  builder.AddListeningPort(endpoint(), grpc::InsecureServerCredentials(), &port_);
  for (const auto& service : {kv_.get(), watch_.get(), lease_.get(), auth_.get()}) {
    builder.RegisterService(service);
  }
  server_ = builder.BuildAndStart();
}

void FakeEtcd::Stop() {
  if (server_ == nullptr) return;
  {
    Lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

void FakeEtcd::Record(mvccpb::Event event) {
  ++revision_;
  event.mutable_kv()->set_mod_revision(revision_);
  if (event.type() == mvccpb::Event::PUT) {
    keys_[event.kv().key()] = event.kv();
  } else {
    keys_.erase(event.kv().key());
  }
  events_.push_back(std::move(event));
  changed_.notify_all();
}

void FakeEtcd::DeleteLocked(const std::string& key) {
  if (!keys_.contains(key)) return;
  mvccpb::Event event;
  event.set_type(mvccpb::Event::DELETE);
  event.mutable_kv()->set_key(key);
  Record(event);
}

void FakeEtcd::SetHeader(etcdserverpb::ResponseHeader* header) const {
  header->set_cluster_id(cluster_id_);
  header->set_revision(revision_);
}

Status FakeEtcd::CheckToken(const Context& context) const {
  if (user_.empty()) return Status::OK;
  const auto found = context.client_metadata().find("token");
  if (found == context.client_metadata().end()) {
    return {StatusCode::INVALID_ARGUMENT, "etcdserver: user name is empty"};
  }
  if (tokens_.contains(std::string(found->second.data(), found->second.size()))) return Status::OK;
  return {StatusCode::UNAUTHENTICATED, "etcdserver: invalid auth token"};
}

void FakeEtcd::Put(const std::string& key, const std::string& value) {
  mvccpb::Event event;
  event.mutable_kv()->set_key(key);
  event.mutable_kv()->set_value(value);
  Lock lock(mutex_);
  Record(std::move(event));
}

void FakeEtcd::Delete(const std::string& key) {
  Lock lock(mutex_);
  DeleteLocked(key);
}

void FakeEtcd::ExpireLeases() {
  Lock lock(mutex_);
  leases_.clear();
  std::vector<std::string> gone;
  for (const auto& [key, value] : keys_) {
    if (value.lease() != 0) gone.push_back(key);
  }
  for (const std::string& key : gone) DeleteLocked(key);
  changed_.notify_all();
}

void FakeEtcd::Compact() {
  Lock lock(mutex_);
  compacted_ = revision_;
  events_.clear();
}

void FakeEtcd::Restore(const std::map<std::string, std::string>& values, int64_t revision,
                       uint64_t cluster_id) {
  Lock lock(mutex_);
  keys_.clear();
  events_.clear();
  leases_.clear();
  for (const auto& [key, value] : values) {
    keys_[key].set_key(key);
    keys_[key].set_value(value);
  }
  revision_ = revision;
  compacted_ = 0;
  cluster_id_ = cluster_id;
}

void FakeEtcd::BreakWatches() {
  Lock lock(mutex_);
  ++break_;
  changed_.notify_all();
}

void FakeEtcd::RequireUser(const std::string& user, const std::string& password) {
  Lock lock(mutex_);
  user_ = user;
  password_ = password;
}

void FakeEtcd::RefuseTokens() {
  Lock lock(mutex_);
  tokens_.clear();
}

uint64_t FakeEtcd::ranges() {
  Lock lock(mutex_);
  return ranges_;
}

uint64_t FakeEtcd::authentications() {
  Lock lock(mutex_);
  return authentications_;
}

uint64_t FakeEtcd::keep_alives() {
  Lock lock(mutex_);
  return keep_alives_;
}

std::vector<int64_t> FakeEtcd::watched_from() {
  Lock lock(mutex_);
  return watched_from_;
}

std::map<std::string, std::string> FakeEtcd::values() {
  Lock lock(mutex_);
  std::map<std::string, std::string> values;
  for (const auto& [key, value] : keys_) values[key] = value.value();
  return values;
}

int64_t FakeEtcd::revision() {
  Lock lock(mutex_);
  return revision_;
}

size_t FakeEtcd::leases() {
  Lock lock(mutex_);
  return leases_.size();
}

void FakeEtcd::Await(const std::function<bool()>& condition) {
  while (!condition()) {
    Lock lock(mutex_);
    // What it holds of may have come between the two: the next change, or this, wakes it.
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
}

}  // namespace engram::etcd
