// HTTP for machines and people who watch engramd: a few pages that are made when they are asked
// for.
//
// civetweb serves them: kHttpThreads threads ("civetweb-..."), short connections, small requests, a
// few seconds for a client to say what it wants. GET and HEAD alone. Thread-compatible; pages are
// called from its threads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "memstore/base/mutex.h"
#include "server/net/listen_address.h"

struct mg_context;
struct mg_connection;

namespace engram {

struct HttpPage {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// civetweb's first message: what kept it from starting. Its threads have more of them later, of
// clients.
struct HttpStartError {
  Mutex mutex;
  std::string text ABSL_GUARDED_BY(mutex);
};

class HttpServer {
 public:
  using Pages = std::map<std::string, std::function<HttpPage()>>;  // by path

  // UNAVAILABLE with the reason where it can't listen; INVALID_ARGUMENT: the host is no address of
  // this machine and not localhost.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const ListenAddress& address,
                                                           Pages pages);
  // Ends its threads; pages are not called any more.
  ~HttpServer();
  const std::string& address() const { return address_; }  // with the port that came of port 0

 private:
  explicit HttpServer(Pages pages) : pages_(std::move(pages)) {}
  static int Handle(mg_connection* connection, void* self);
  void Answer(mg_connection* connection) const;

  const Pages pages_;
  std::string address_;
  HttpStartError start_error_;
  mg_context* context_ = nullptr;
};

}  // namespace engram
