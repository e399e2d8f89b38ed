#include "server/admin/http_server.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "server/net/listen_socket.h"

namespace engram {
namespace {

// A connection on which nothing happens for this long is closed.
constexpr unsigned kIdleSeconds = 10;
// Connections that are being closed for others; libmicrohttpd accepts a few before it closes one.
constexpr size_t kSpareConnections = 64;
// Of the process's descriptors, most of which are for lookups.
constexpr rlim_t kShareOfFiles = 32;
constexpr size_t kFewestConnections = 16;

// Nothing of a page loads anything from elsewhere, and no other site shows one in its own.
constexpr char kContentPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

size_t MostConnections() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kFewestConnections;
  return std::clamp<rlim_t>(limit.rlim_cur / kShareOfFiles, kFewestConnections,
                            HttpServer::kMostConnections);
}

bool Respond(MHD_Connection* connection, const HttpPage& page, const char* location = nullptr) {
  MHD_Response* const response = MHD_create_response_from_buffer(
      page.body.size(), const_cast<char*>(page.body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return false;
  const auto add = [response](const char* name, const char* value) {
    return MHD_add_response_header(response, name, value) == MHD_YES;
  };
  bool ok =
      add(MHD_HTTP_HEADER_CONTENT_TYPE, page.content_type.c_str()) &&
      add(MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") && add("X-Content-Type-Options", "nosniff") &&
      add("Content-Security-Policy", kContentPolicy) && add(MHD_HTTP_HEADER_CONNECTION, "close");
  if (page.code == MHD_HTTP_METHOD_NOT_ALLOWED) ok = ok && add(MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  if (location != nullptr) ok = ok && add(MHD_HTTP_HEADER_LOCATION, location);
  ok = ok && MHD_queue_response(connection, static_cast<unsigned>(page.code), response) == MHD_YES;
  MHD_destroy_response(response);
  return ok;
}

// What libmicrohttpd lets pass and one reader may take otherwise than another.
struct HeaderCheck {
  int hosts = 0;
  bool is_bad = false;
};

MHD_Result CheckHeader(void* check, MHD_ValueKind, const char* key, const char*) {
  auto& found = *static_cast<HeaderCheck*>(check);
  if (absl::EqualsIgnoreCase(key, MHD_HTTP_HEADER_HOST)) ++found.hosts;
  if (absl::EqualsIgnoreCase(key, MHD_HTTP_HEADER_CONTENT_LENGTH) ||
      absl::EqualsIgnoreCase(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
      std::strpbrk(key, " \t") != nullptr) {
    found.is_bad = true;
  }
  return MHD_YES;
}

bool IsWellFormed(MHD_Connection* connection, absl::string_view path, absl::string_view version) {
  if (!absl::StartsWith(path, "/")) return false;
  for (const char c : path) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) return false;
  }
  HeaderCheck check;
  MHD_get_connection_values(connection, MHD_HEADER_KIND, CheckHeader, &check);
  const int fewest_hosts = version == MHD_HTTP_VERSION_1_0 ? 0 : 1;
  return !check.is_bad && check.hosts >= fewest_hosts && check.hosts <= 1;
}

}  // namespace

struct HttpServer::Callbacks {
  static MHD_Result Answer(void* self, MHD_Connection* connection, const char* url,
                           const char* method, const char* version, const char*, size_t*,
                           void** waits) {
    const Request request{.path = url,
                          .method = method,
                          .version = version,
                          .is_whole = version == static_cast<const char*>(*waits) + 1};
    return static_cast<HttpServer*>(self)->Answer(connection, request, waits) ? MHD_YES : MHD_NO;
  }
  static void Notice(void* self, MHD_Connection* connection, void** held,
                     MHD_ConnectionNotificationCode what) {
    auto* const server = static_cast<HttpServer*>(self);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) server->Opened(connection, held);
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) server->Closed(held);
  }
  // Where the path and the query end, as a string. libmicrohttpd lets a NUL in them pass, and gives
  // what stands before it; the version, in the same buffer, is then more than the space behind.
  static void* EndOfUri(void*, const char* uri, MHD_Connection*) {
    return const_cast<char*>(uri) + std::strlen(uri);
  }
  // A path is compared as it was sent: /metrics%00 is no other way to write /metrics.
  static size_t LeaveEscapes(void*, MHD_Connection*, char* text) { return std::strlen(text); }
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const ListenAddress& address,
                                                              Site site) {
  // One socket: of localhost's two addresses the older one.
  ListenAddress at = address;
  if (at.host == "localhost") at.host = "127.0.0.1";
  absl::StatusOr<std::vector<ListenSocket>> bound = ListenSocket::Bind(at);
  absl::Status status = bound.status();
  if (status.ok()) status = bound->front().Listen();
  if (!status.ok()) {
    absl::string_view why = status.message();
    absl::ConsumePrefix(&why, absl::StrCat("cannot listen on ", at.Text(), ": "));
    return absl::Status(status.code(),
                        absl::StrCat("cannot listen on ", address.Text(), " for HTTP: ", why));
  }
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(site), MostConnections()));
  server->address_ = bound->front().address().Text();
  ENGRAM_RETURN_IF_ERROR(server->StartThreads());
  ENGRAM_RETURN_IF_ERROR(server->StartDaemon(bound->front().fd()));
  return server;
}

absl::Status HttpServer::StartThreads() {
  for (size_t i = 0; i < kPageThreads; ++i) {
    ENGRAM_ASSIGN_OR_RETURN(std::thread thread,
                            StartThread("engram-pages", [this] { MakePages(); }));
    threads_.push_back(std::move(thread));
  }
  return absl::OkStatus();
}

// The daemon has a descriptor of its own of the socket, and closes it.
absl::Status HttpServer::StartDaemon(int listen_fd) {
  const int fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no descriptor for HTTP: ", strerrordesc_np(errno)));
  }
  daemon_ = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr,
                             nullptr, &Callbacks::Answer, this,  //
                             MHD_OPTION_LISTEN_SOCKET, fd,       //
                             MHD_OPTION_CONNECTION_LIMIT,
                             static_cast<unsigned>(most_connections_ + kSpareConnections),  //
                             MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionBytes,          //
                             MHD_OPTION_CONNECTION_TIMEOUT, kIdleSeconds,                   //
                             MHD_OPTION_NOTIFY_CONNECTION, &Callbacks::Notice, this,        //
                             MHD_OPTION_URI_LOG_CALLBACK, &Callbacks::EndOfUri, nullptr,    //
                             MHD_OPTION_UNESCAPE_CALLBACK, &Callbacks::LeaveEscapes, nullptr,
                             MHD_OPTION_END);
  if (daemon_ != nullptr) return absl::OkStatus();
  close(fd);
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot serve HTTP on ", address_, ": no thread or no memory for it"));
}

HttpServer::~HttpServer() {
  std::deque<Waiting> waiting;
  {
    MutexLock lock(mutex_);
    ending_ = true;
    waiting.swap(waiting_);
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
  // The daemon ends with no connection suspended, or not at all.
  for (const Waiting& one : waiting) MHD_resume_connection(one.connection);
  if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
}

void HttpServer::Opened(MHD_Connection* connection, void** held) {
  const MHD_ConnectionInfo* const info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info == nullptr) return;
  Held& opened = held_.emplace_back();
  opened.fd = info->connect_fd;
  opened.self = std::prev(held_.end());
  *held = &opened;
  if (held_.size() - leaving_ > most_connections_) MakeRoom();
}

void HttpServer::Closed(void** held) {
  if (*held == nullptr) return;
  const Held& gone = *static_cast<const Held*>(std::exchange(*held, nullptr));
  if (gone.is_leaving) --leaving_;
  held_.erase(gone.self);
}

// Ends the oldest that has asked for nothing, or, where all have asked, the oldest of all. The
// daemon then finds its end, and closes it.
void HttpServer::MakeRoom() {
  auto oldest = held_.end();
  for (auto at = held_.begin(); at != held_.end(); ++at) {
    if (at->is_leaving) continue;
    if (oldest == held_.end()) oldest = at;
    if (at->has_asked) continue;
    oldest = at;
    break;
  }
  if (oldest == held_.end()) return;
  oldest->is_leaving = true;
  ++leaving_;
  shutdown(oldest->fd, SHUT_RDWR);
}

bool HttpServer::Answer(MHD_Connection* connection, const Request& request, void** waits) {
  // Its page could not be handed over: there is no memory for it.
  if (*waits == this) return false;
  const MHD_ConnectionInfo* const info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  if (info != nullptr && info->socket_context != nullptr) {
    static_cast<Held*>(info->socket_context)->has_asked = true;
  }
  if (!request.is_whole || !IsWellFormed(connection, request.path, request.version)) {
    return Respond(connection, {.code = MHD_HTTP_BAD_REQUEST,
                                .body = "this request is malformed, or has a body: send GET or "
                                        "HEAD of a path\n"});
  }
  if (request.method != MHD_HTTP_METHOD_GET && request.method != MHD_HTTP_METHOD_HEAD) {
    return Respond(connection,
                   {.code = MHD_HTTP_METHOD_NOT_ALLOWED, .body = "only GET and HEAD are served\n"});
  }
  if (request.path == "/" && !site_.front.empty()) {
    return Respond(connection, {.code = MHD_HTTP_FOUND, .body = absl::StrCat(site_.front, "\n")},
                   site_.front.c_str());
  }
  const std::string path(request.path);
  if (const auto probe = site_.probes.find(path); probe != site_.probes.end()) {
    return Respond(connection, probe->second());
  }
  if (const auto page = site_.pages.find(path); page != site_.pages.end()) {
    return WaitForPage(connection, page->second, waits);
  }
  return Respond(connection, NoSuchPage());
}

bool HttpServer::WaitForPage(MHD_Connection* connection, const Make& make, void** waits) {
  MutexLock lock(mutex_);
  if (ending_ || waiting_.size() >= kMostWaitingPages) {
    lock.Unlock();
    return Respond(connection, {.code = MHD_HTTP_SERVICE_UNAVAILABLE,
                                .body = "no page can be made now: ask again\n"});
  }
  *waits = this;
  MHD_suspend_connection(connection);
  waiting_.push_back({.connection = connection, .make = &make});
  changed_.NotifyOne();
  return true;
}

HttpPage HttpServer::NoSuchPage() const {
  HttpPage page{.code = MHD_HTTP_NOT_FOUND, .body = "no such page; there are:\n"};
  for (const auto& [path, make] : site_.pages) absl::StrAppend(&page.body, path, "\n");
  for (const auto& [path, make] : site_.probes) absl::StrAppend(&page.body, path, "\n");
  return page;
}

void HttpServer::MakePages() {
  MutexLock lock(mutex_);
  while (true) {
    while (!ending_ && waiting_.empty()) changed_.Wait(mutex_);
    if (ending_) return;
    const Waiting next = waiting_.front();
    waiting_.pop_front();
    lock.Unlock();
    // Where this fails Answer is asked again, and ends the connection.
    static_cast<void>(Respond(next.connection, (*next.make)()));
    MHD_resume_connection(next.connection);
    lock.Lock();
  }
}

}  // namespace engram
