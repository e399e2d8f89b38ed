#include "server/admin/http_server.h"

#include <civetweb.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Prometheus, probes, and a person or two at once; and so many that say nothing that whoever asks
// among them waits for less than a probe does. Threads that wait cost little.
constexpr char kHttpThreads[] = "32";
// A client says what it wants in this time, or is closed.
constexpr char kRequestTimeoutMs[] = "1000";
// A path and a browser's headers.
constexpr char kMaxRequestBytes[] = "16384";

int KeepStartError(const mg_connection* connection, const char* message) {
  auto* const error = static_cast<HttpStartError*>(mg_get_user_data(mg_get_context(connection)));
  if (error == nullptr) return 1;
  MutexLock lock(error->mutex);
  if (error->text.empty()) error->text = message;
  return 1;
}

const char* Reason(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const ListenAddress& address,
                                                              Pages pages) {
  // civetweb takes addresses alone.
  const std::string host = address.host == "localhost" ? "127.0.0.1" : address.host;
  const std::string port = absl::StrCat(host, ":", address.port);
  const char* options[] = {"listening_ports",
                           port.c_str(),
                           "num_threads",
                           kHttpThreads,
                           "request_timeout_ms",
                           kRequestTimeoutMs,
                           "max_request_size",
                           kMaxRequestBytes,
                           "enable_keep_alive",
                           "no",
                           nullptr};
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(pages)));
  mg_init_library(0);
  mg_callbacks callbacks{};
  callbacks.log_message = KeepStartError;
  server->context_ = mg_start(&callbacks, &server->start_error_, options);
  mg_server_port bound{};
  if (server->context_ == nullptr || mg_get_server_ports(server->context_, 1, &bound) != 1) {
    MutexLock lock(server->start_error_.mutex);
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address.Text(), " for HTTP: ", server->start_error_.text,
                     "; is the port taken, and ", address.host, " an address of this machine?"));
  }
  server->address_ = absl::StrCat(host, ":", bound.port);
  mg_set_request_handler(server->context_, "**", Handle, server.get());
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
  mg_exit_library();
}

int HttpServer::Handle(mg_connection* connection, void* self) {
  static_cast<const HttpServer*>(self)->Answer(connection);
  return 1;
}

void HttpServer::Answer(mg_connection* connection) const {
  const mg_request_info& request = *mg_get_request_info(connection);
  const auto found = pages_.find(request.local_uri);
  HttpPage page;
  if (std::strcmp(request.request_method, "GET") != 0 &&
      std::strcmp(request.request_method, "HEAD") != 0) {
    page = {.code = 405, .body = "GET and HEAD alone\n"};
  } else if (found == pages_.end()) {
    page.code = 404;
    page.body = "no such page; there are:\n";
    for (const auto& [path, make] : pages_) absl::StrAppend(&page.body, path, "\n");
  } else {
    page = found->second();
  }
  mg_printf(
      connection,
      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
      "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
      page.code, Reason(page.code), page.content_type.c_str(), page.body.size());
  if (std::strcmp(request.request_method, "HEAD") == 0) return;
  mg_write(connection, page.body.data(), page.body.size());
}

}  // namespace engram
