#include "memstore/discovery/host_and_port.h"

#include <arpa/inet.h>

#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace engram {
namespace {

// Of a name or an address; an underscore is in names of containers, a percent sign in an address's
// scope. A slash is a URL's, a blank nobody's.
bool IsOfHost(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' ||
         c == ':' || c == '%' || c == '[' || c == ']' || !absl::ascii_isascii(c);
}

}  // namespace

bool IsHostAndPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return false;
  const absl::string_view host = text.substr(0, colon);
  if (host.find(':') != absl::string_view::npos && (host.front() != '[' || host.back() != ']')) {
    return false;
  }
  if (!absl::c_all_of(host, IsOfHost)) return false;
  // SimpleAtoi takes blanks and signs.
  if (!absl::c_all_of(text.substr(colon + 1), absl::ascii_isdigit)) return false;
  int port = 0;
  return absl::SimpleAtoi(text.substr(colon + 1), &port) && port > 0 && port <= 65535;
}

absl::string_view HostOf(absl::string_view host_and_port) {
  return host_and_port.substr(0, host_and_port.rfind(':'));
}

bool IsLoopbackHost(absl::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  in_addr address;
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 &&
         ntohl(address.s_addr) >> 24 == 127;
}

bool IsWildcardHost(absl::string_view host) { return host == "0.0.0.0" || host == "[::]"; }

}  // namespace engram
