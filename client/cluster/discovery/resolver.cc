#include "client/cluster/discovery/resolver.h"

#include <netdb.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

absl::Status WhyNone(const std::string& name, int error) {
  switch (error) {
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
      return absl::NotFoundError(absl::StrCat(
          name,
          " has no A or AAAA record: is it spelt as the network knows it, and are there "
          "stores behind it?"));
    case EAI_SYSTEM:
      return absl::UnavailableError(
          absl::StrCat("cannot look ", name, " up: ", strerror(errno)));  // NOLINT(concurrency-*)
    default:
      return absl::UnavailableError(
          absl::StrCat("cannot look ", name, " up: ", gai_strerror(error)));
  }
}

absl::StatusOr<std::vector<std::string>> LookUp(const std::string& name, const std::string& port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(name.c_str(), port.c_str(), &hints, &found); error != 0) {
    return WhyNone(name, error);
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  std::set<std::string> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, NI_MAXHOST> host{};
    if (getnameinfo(one->ai_addr, one->ai_addrlen, host.data(), host.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
      continue;
    }
    addresses.insert(one->ai_family == AF_INET6 ? absl::StrCat("[", host.data(), "]:", port)
                                                : absl::StrCat(host.data(), ":", port));
  }
  if (addresses.empty()) return WhyNone(name, EAI_NODATA);
  return std::vector<std::string>(addresses.begin(), addresses.end());
}

}  // namespace

Resolver SystemResolver() { return LookUp; }

}  // namespace engram
