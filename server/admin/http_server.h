// HTTP for machines and people who watch engramd: a few pages that are made when they are asked
// for.
//
// libmicrohttpd serves them. One thread ("MHD-single") polls every connection, reads requests and
// answers probes itself, so a probe waits for nobody. Pages, which may take a second, are made by
// kPageThreads threads ("engram-pages"). Memory and descriptors are bounded: a connection has
// kConnectionBytes, and where there are as many connections as there may be, the oldest one that
// has asked for nothing yet is closed for the next one. Only GET and HEAD without a body are
// served, one per connection. Nothing of a request is repeated in an answer. Thread-compatible.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/base/mutex.h"
#include "server/net/listen_address.h"

struct MHD_Connection;
struct MHD_Daemon;

namespace engram {

struct HttpPage {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class HttpServer {
 public:
  using Make = std::function<HttpPage()>;
  // By path. Makers are called from the server's threads, pages' from several at once.
  struct Site {
    std::map<std::string, Make> probes;  // that never wait: they are made by the thread that polls
    std::map<std::string, Make> pages;
    std::string front;  // where "/" leads; empty: nowhere
  };
  static constexpr size_t kPageThreads = 2;
  // Pages that are asked for and not begun; the next one is 503.
  static constexpr size_t kMostWaitingPages = 32;
  // Of a request: a path and a browser's headers.
  static constexpr size_t kConnectionBytes = 16 << 10;
  // Far more than there are scrapers, probes and people, and few enough that whoever opens
  // connections as fast as he can leaves a probe some milliseconds for its request.
  static constexpr size_t kMostConnections = 512;

  // Listens on the first address that the host stands for. UNAVAILABLE or ALREADY_EXISTS with the
  // reason where it can't, RESOURCE_EXHAUSTED where threads or descriptors can't be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const ListenAddress& address, Site site);
  // Ends its threads; no page is called any more.
  ~HttpServer();
  const std::string& address() const { return address_; }  // with the port that came of port 0

 private:
  struct Callbacks;  // libmicrohttpd's, which call what follows
  struct Held {
    int fd = -1;
    bool has_asked = false;
    bool is_leaving = false;
    std::list<Held>::iterator self;
  };
  struct Request {
    absl::string_view path, method, version;
    bool is_whole = false;  // no NUL cuts the path or the query off
  };
  struct Waiting {
    MHD_Connection* connection = nullptr;
    const Make* make = nullptr;
  };

  HttpServer(Site site, size_t most_connections)
      : site_(std::move(site)), most_connections_(most_connections) {}
  absl::Status StartThreads();
  absl::Status StartDaemon(int listen_fd);
  // Of the thread that polls.
  void Opened(MHD_Connection* connection, void** held);
  void Closed(void** held);
  void MakeRoom();
  // `waits`: this, once the connection waited for a page.
  bool Answer(MHD_Connection* connection, const Request& request, void** waits);
  bool WaitForPage(MHD_Connection* connection, const Make& make, void** waits)
      ABSL_LOCKS_EXCLUDED(mutex_);
  HttpPage NoSuchPage() const;

  void MakePages() ABSL_LOCKS_EXCLUDED(mutex_);

  const Site site_;
  const size_t most_connections_;
  std::string address_;
  MHD_Daemon* daemon_ = nullptr;
  // The oldest first. The polling thread's alone, and the destructor's once that has ended.
  std::list<Held> held_;
  size_t leaving_ = 0;  // of held_
  Mutex mutex_;
  CondVar changed_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace engram
