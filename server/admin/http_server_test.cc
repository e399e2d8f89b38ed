#include "server/admin/http_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/net/listen_address.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A connection of a client's; closed when it goes.
class Peer {
 public:
  explicit Peer(const HttpServer& server) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const std::string& address = server.address();
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) << address;
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  }
  Peer(Peer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Peer() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  void Send(absl::string_view text) { send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  // Until the server closes it.
  std::string Read() {
    std::string answer;
    char buffer[4096];
    for (ssize_t bytes = 0; (bytes = recv(fd_, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(bytes));
    }
    return answer;
  }

 private:
  int fd_;
};

std::string Get(absl::string_view path) {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n");
}

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    HttpServer::Site site;
    site.front = "/page";
    site.probes["/probe"] = [] { return HttpPage{.body = "alive\n"}; };
    site.probes["/not"] = [] { return HttpPage{.code = 503, .body = "loading\n"}; };
    site.pages["/page"] = [] {
      return HttpPage{.content_type = "text/html; charset=utf-8", .body = "<p>page</p>\n"};
    };
    site.pages["/slow"] = [this] {
      ++making_;
      go_on_.WaitForNotification();
      return HttpPage{.body = "slow\n"};
    };
    server_ = HttpServer::Start(ParseListenAddress("localhost:0").value(), std::move(site)).value();
  }
  std::string Ask(absl::string_view request) {
    Peer peer(*server_);
    peer.Send(request);
    return peer.Read();
  }
  void AwaitMaking(int count) const {
    while (making_.load() < count) sched_yield();
  }

  absl::Notification go_on_;
  std::atomic<int> making_{0};
  std::unique_ptr<HttpServer> server_;  // ends before what its pages use
};

TEST_F(HttpServerTest, ProbesAndPagesAreServedUnderTheirPaths) {
  EXPECT_THAT(server_->address(), StartsWith("127.0.0.1:"));
  EXPECT_THAT(Ask(Get("/probe")), AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("alive\n")));
  EXPECT_THAT(Ask(Get("/not")), AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("loading\n")));
  EXPECT_THAT(Ask(Get("/page?at=1")),
              AllOf(HasSubstr("text/html"), HasSubstr("default-src 'none'"),
                    HasSubstr("Connection: close"), EndsWith("<p>page</p>\n")));
  EXPECT_THAT(Ask("HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n"),
              AllOf(HasSubstr("Content-Length: 12\r\n"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(Ask(Get("/")), AllOf(StartsWith("HTTP/1.1 302 "), HasSubstr("Location: /page\r\n")));
  EXPECT_THAT(Ask(Get("/none")),
              AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("/probe\n"), Not(HasSubstr("/none"))));
  EXPECT_THAT(Ask("POST /page HTTP/1.1\r\nHost: x\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n")));
}

TEST_F(HttpServerTest, WhatIsNoRequestIsRefusedAndNotRepeated) {
  for (const std::string& head :
       {std::string("GE T /page HTTP/1.1\r\nHost: x"), std::string("GE T /page"),
        std::string("GET /page"), std::string("GET /pa\x1b[31mge HTTP/1.1\r\nHost: x"),
        std::string("GET page HTTP/1.1\r\nHost: x"), std::string("GET /page HTTP/1.1"),
        std::string("GET /page HTTP/1.1\r\nHost: x\r\nHost: y"),
        std::string("GET /page HTTP/1.1\r\nHost: x\r\nno-colon"),
        std::string("GET /page HTTP/1.1\r\nHost: x\r\nsome : space"),
        std::string("GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 3"),
        std::string("GET /page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked")}) {
    const std::string answer = Ask(head + "\r\n\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << head;
    for (const char* part : {"GE T", "\x1b", "no-colon", "some :"}) {
      EXPECT_THAT(answer, Not(HasSubstr(part))) << head;
    }
  }
  EXPECT_THAT(Ask("GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\n"),
              StartsWith("HTTP/1.1 4"));
  // Other ways to write a path are other paths.
  for (const char* path : {"/page%00", "/p%61ge", "/%2e%2e/page", "/./page", "/page/"}) {
    EXPECT_THAT(Ask(Get(path)), StartsWith("HTTP/1.1 404 ")) << path;
  }
  EXPECT_THAT(Ask(Get("/" + std::string(60000, 'x'))), StartsWith("HTTP/1.1 4"));
  EXPECT_THAT(Ask(Get("/probe")), EndsWith("alive\n"));
}

// A path that goes on behind a NUL is not the path before it.
TEST_F(HttpServerTest, ANulInAPathIsRefused) {
  using namespace std::string_literals;
  for (const std::string& target : {"/page\0"s, "/page\0.html"s, "/probe\0"s, "\0/page"s,
                                    "/page?at=\0"s, "/\0"s, "/page\0 x"s}) {
    EXPECT_THAT(Ask(Get(target)), StartsWith("HTTP/1.1 400 ")) << ::testing::PrintToString(target);
  }
  for (const char* target : {"/page%00", "/page%00.html", "/probe%00", "/%00"}) {
    EXPECT_THAT(Ask(Get(target)), StartsWith("HTTP/1.1 404 ")) << target;
  }
  EXPECT_THAT(Ask(Get("/page?at=%00")), EndsWith("<p>page</p>\n"));
}

// More than there may be, half of them with a part of a request: whoever asks is answered, and the
// oldest ones went.
TEST_F(HttpServerTest, SilentConnectionsGiveWay) {
  std::vector<Peer> silent;
  for (size_t i = 0; i < HttpServer::kMostConnections + 100; ++i) {
    silent.emplace_back(*server_);
    if (i % 2 == 1) silent.back().Send("GET /pro");
  }
  silent.back().Send("be HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(silent.back().Read(), EndsWith("alive\n"));
  for (int i = 0; i < 100; ++i) EXPECT_THAT(Ask(Get("/probe")), EndsWith("alive\n"));
  EXPECT_THAT(Ask(Get("/page")), EndsWith("<p>page</p>\n"));
  EXPECT_EQ(silent.front().Read(), "");  // closed, or this waits
}

TEST_F(HttpServerTest, ProbesDoNotWaitForPages) {
  std::vector<Peer> waiting;
  for (size_t i = 0; i < HttpServer::kPageThreads + 1; ++i) {
    waiting.emplace_back(*server_);
    waiting.back().Send(Get("/slow"));
  }
  AwaitMaking(HttpServer::kPageThreads);
  EXPECT_THAT(Ask(Get("/probe")), EndsWith("alive\n"));
  go_on_.Notify();
  for (Peer& peer : waiting) EXPECT_THAT(peer.Read(), EndsWith("slow\n"));
}

TEST_F(HttpServerTest, PagesThatWaitAreBounded) {
  std::vector<Peer> waiting;
  for (size_t i = 0; i < HttpServer::kPageThreads; ++i) {
    waiting.emplace_back(*server_);
    waiting.back().Send(Get("/slow"));
  }
  AwaitMaking(HttpServer::kPageThreads);
  for (size_t i = 0; i < HttpServer::kMostWaitingPages + 1; ++i) {
    waiting.emplace_back(*server_);
    waiting.back().Send(Get("/slow"));
  }
  std::vector<pollfd> ready;
  for (const Peer& peer : waiting) {
    ready.push_back({.fd = peer.fd(), .events = POLLIN, .revents = 0});
  }
  ASSERT_EQ(poll(ready.data(), ready.size(), -1), 1);
  go_on_.Notify();
  int refused = 0;
  for (Peer& peer : waiting) {
    const std::string answer = peer.Read();
    if (answer.find(" 503 ") != std::string::npos) {
      ++refused;
    } else {
      EXPECT_THAT(answer, EndsWith("slow\n"));
    }
  }
  EXPECT_EQ(refused, 1);
}

TEST_F(HttpServerTest, EndsWhilePagesAreMadeAndWaitedFor) {
  std::vector<Peer> waiting;
  for (size_t i = 0; i < HttpServer::kPageThreads + 5; ++i) {
    waiting.emplace_back(*server_);
    waiting.back().Send(Get("/slow"));
  }
  AwaitMaking(HttpServer::kPageThreads);
  go_on_.Notify();
  server_.reset();
  for (Peer& peer : waiting) peer.Read();  // each ends
}

TEST_F(HttpServerTest, APortThatIsTakenIsNamed) {
  const auto second = HttpServer::Start(ParseListenAddress(server_->address()).value(), {});
  EXPECT_THAT(second.status().message(),
              HasSubstr(absl::StrCat("cannot listen on ", server_->address(), " for HTTP: ")));
}

}  // namespace
}  // namespace engram
