// An etcd in the process of a test: keys, leases that do not expire by themselves, watches, users;
// and what happens to one: compaction, a backup that is restored, another cluster, streams that
// break, tokens that are refused.
//
// Thread-safe. Its own names are those of etcd's API. Listens on a port of 127.0.0.1.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "proto/etcd/rpc.grpc.pb.h"

namespace engram::etcd {

class FakeEtcd {
 public:
  FakeEtcd();
  ~FakeEtcd();
  FakeEtcd(const FakeEtcd&) = delete;
  FakeEtcd& operator=(const FakeEtcd&) = delete;

  std::string endpoint() const;
  // Nobody listens until Start; what it holds stays. Start takes the same port.
  void Stop();
  void Start();

  // What others do to it.
  void Put(const std::string& key, const std::string& value);
  void Delete(const std::string& key);
  // Deletes its keys, and the lease is gone.
  void ExpireLeases();
  // Events of revisions up to the newest are forgotten.
  void Compact();
  // As after a restore: these keys, this revision, and whose cluster it is.
  void Restore(const std::map<std::string, std::string>& values, int64_t revision,
               uint64_t cluster_id);
  // Every watch ends; new ones are taken.
  void BreakWatches();
  // From now on calls need a token of this user's.
  void RequireUser(const std::string& user, const std::string& password);
  void RefuseTokens();  // those given until now

  // What was asked of it.
  uint64_t ranges();
  uint64_t authentications();
  uint64_t keep_alives();
  std::vector<int64_t> watched_from();  // the start_revision of each watch
  std::map<std::string, std::string> values();
  int64_t revision();
  size_t leases();
  // Waits until it holds; asked after each change.
  void Await(const std::function<bool()>& condition);

 private:
  class KvService;
  class WatchService;
  class LeaseService;
  class AuthService;
  using Context = grpc::ServerContextBase;

  void Record(mvccpb::Event event);
  void SetHeader(etcdserverpb::ResponseHeader* header) const;
  grpc::Status CheckToken(const Context& context) const;
  void DeleteLocked(const std::string& key);

  std::mutex mutex_;
  std::condition_variable changed_;
  int port_ = 0;
  int64_t revision_ = 1;
  int64_t compacted_ = 0;
  uint64_t cluster_id_ = 77;
  std::map<std::string, mvccpb::KeyValue> keys_;
  std::vector<mvccpb::Event> events_;
  std::set<int64_t> leases_;
  int64_t next_lease_ = 1000;
  uint64_t break_ = 0;  // how often watches were broken
  bool stopping_ = false;
  std::string user_, password_;
  std::set<std::string> tokens_;
  uint64_t ranges_ = 0, authentications_ = 0, keep_alives_ = 0;
  std::vector<int64_t> watched_from_;
  std::unique_ptr<grpc::Service> kv_, watch_, lease_, auth_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace engram::etcd
