#include "server/net/listen_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// What a URI gives a meaning of its own: gRPC's clients read their targets as URIs.
constexpr absl::string_view kUriCharacters = "%?#";

}  // namespace

std::string ListenAddress::Text() const {
  return is_unix() ? absl::StrCat("unix:", unix_path) : absl::StrCat(host, ":", port);
}

bool ListenAddress::IsLocal() const {
  if (is_unix() || host == "localhost" || host == "[::1]") return true;
  in_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  const auto invalid = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on \"", text, "\": ", what, "; write HOST:PORT or unix:PATH"));
  };
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "unix:")) {
    if (path.empty()) return invalid("it has no path");
    // gRPC's clients would look for a file of that name.
    if (path.front() == '@') {
      return invalid(
          absl::StrCat("abstract sockets have no file that says who may connect, and are not "
                       "served: for a file of that name write unix:./",
                       path));
    }
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
      return invalid(absl::StrCat("the path of a Unix socket has at most ",
                                  sizeof(sockaddr_un::sun_path) - 1, " bytes"));
    }
    if (absl::StartsWith(path, "//") && !absl::StartsWith(path, "///")) {
      return invalid("two slashes begin a host's name for gRPC's clients: write one");
    }
    if (path.find('\0') != absl::string_view::npos) return invalid("the path holds a zero byte");
    if (const size_t at = path.find_first_of(kUriCharacters); at != absl::string_view::npos) {
      return invalid(absl::StrCat("the path holds \"", path.substr(at, 1),
                                  "\", which gRPC's clients do not take as it is: choose another"));
    }
    return ListenAddress{.host = {}, .port = {}, .unix_path = std::string(path)};
  }
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return invalid("it has no port");
  const absl::string_view host = text.substr(0, colon);
  const absl::string_view port = text.substr(colon + 1);
  uint32_t number = 0;
  if (!absl::SimpleAtoi(port, &number) || number > 65535) return invalid("no such port");
  if (host.empty()) return invalid("it has no host (0.0.0.0 or [::] is any)");
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find_first_of(":[]") != absl::string_view::npos) {
    return invalid("an IPv6 address stands in brackets");
  }
  return ListenAddress{.host = std::string(host), .port = std::string(port), .unix_path = {}};
}

}  // namespace engram
