#include "client/cli/support/addresses.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/target.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/os/posix_file.h"

namespace engram::cli {
namespace {

// Words before a colon that are no host: a target's kinds, and those of URLs.
constexpr absl::string_view kNoHosts[] = {"embedded", "grpc", "shm",   "rdma", "auto", "cluster",
                                          "unix",     "http", "https", "dns",  "tcp"};

// The target at a socket's path. A shared-memory socket is SOCK_SEQPACKET, one of gRPC
// SOCK_STREAM, and the kernel connects none with another type, so that an answer can't be wrong.
// engramd takes a connection that ends at once for a client that went away.
absl::StatusOr<std::string> TargetOfSocket(const std::string& path) {
  sockaddr_un address{};
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int error = ENAMETOOLONG;
  if (!socket.is_open()) {
    error = errno;
  } else if (path.size() < sizeof(address.sun_path)) {
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    const auto* const to = reinterpret_cast<const sockaddr*>(&address);
    error = connect(socket.get(), to, sizeof(address)) == 0 ? 0 : errno;
  }
  // EAGAIN: its line of connections is full.
  if (error == 0 || error == EAGAIN) return absl::StrCat("shm:", path);
  if (error == EPROTOTYPE) return absl::StrCat("grpc:unix:", path);
  const std::string shown = QuoteForMessage(path);
  return absl::InvalidArgumentError(
      absl::StrCat("\"", shown,
                   "\" may be a socket of shared memory or of gRPC, and which it is "
                   "can't be told: ",
                   strerrordesc_np(error), ". Write shm:", shown, " or grpc:unix:", shown));
}

absl::StatusOr<std::string> TargetOfPath(const std::string& path) {
  struct stat stat;
  if (::stat(path.c_str(), &stat) == 0 && S_ISDIR(stat.st_mode)) {
    const std::string shown = QuoteForMessage(path);
    return absl::InvalidArgumentError(
        absl::StrCat("\"", shown, "\" is a directory: write embedded:", shown,
                     " to load the table set into this process, or give the socket of an engramd"));
  }
  return TargetOfSocket(path);
}

// Two slashes are a URL's. Without a colon neither a kind, a port nor a URL can be meant, so that a
// slash or a socket's usual ending makes it a path from here.
bool IsPath(absl::string_view text) {
  if (absl::StartsWith(text, "//")) return false;
  if (absl::StartsWith(text, "/") || absl::StartsWith(text, "./") ||
      absl::StartsWith(text, "../")) {
    return true;
  }
  return !absl::StrContains(text, ':') &&
         (absl::StrContains(text, '/') || absl::EndsWith(text, ".sock"));
}

// Of HOST:PORT; empty: `place` is something else.
std::string HostOf(absl::string_view place) {
  if (absl::StartsWith(place, "unix:")) return "";
  absl::string_view host = place.substr(0, place.rfind(':'));
  if (absl::ConsumePrefix(&host, "[")) host = absl::StripSuffix(host, "]");
  return std::string(host);
}

}  // namespace

absl::StatusOr<std::string> WholeTarget(const std::string& text) {
  const absl::StatusOr<Target> target = ParseTarget(text);
  if (target.ok()) return text;
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "unix:")) absl::ConsumePrefix(&path, "//");
  if (IsPath(path)) return TargetOfPath(std::string(path));
  const bool is_kind = absl::c_linear_search(kNoHosts, text.substr(0, text.find(':')));
  const std::string over_grpc = absl::StrCat("grpc:", text);
  if (!is_kind && ParseTarget(over_grpc).ok()) return over_grpc;
  const char* const variable = std::getenv("ENGRAM_TARGET");
  if (variable == nullptr || text != variable) return target.status();
  return absl::InvalidArgumentError(
      absl::StrCat(target.status().message(), " (this one is of the variable ENGRAM_TARGET)"));
}

absl::StatusOr<std::string> AdminAddress(const std::string& text) {
  absl::string_view address = absl::StripPrefix(text, "grpc:");
  const std::string whole = absl::StrCat(IsPath(address) ? "unix:" : "", address);
  const absl::StatusOr<Target> target = ParseTarget(absl::StrCat("grpc:", whole));
  if (target.ok()) return whole;
  // The form that was meant, of a URL that HTTP/2 carries.
  std::string meant;
  for (const absl::string_view prefix : {"http://", "https://", "//", "tcp://"}) {
    absl::string_view place = address;
    if (!absl::ConsumePrefix(&place, prefix)) continue;
    place = absl::StripSuffix(place, "/");
    const std::string form = absl::StrCat(IsPath(place) ? "unix:" : "", place);
    if (ParseTarget(absl::StrCat("grpc:", form)).ok()) {
      meant = absl::StrCat("did you mean ", QuoteForMessage(form), "? ");
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--admin \"", QuoteForMessage(text), "\" is no address of an operators' port: ", meant,
      "write HOST:PORT, unix:PATH or /PATH, as engramd's --admin-grpc-listen "
      "says (a path of at most 107 characters)"));
}

absl::Status CheckHostIsKnown(absl::string_view place) {
  const std::string host = HostOf(place);
  // gRPC knows the second without a resolver.
  if (host.empty() || host == "localhost") return absl::OkStatus();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error == 0) freeaddrinfo(found);
  if (error != EAI_NONAME) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("the host \"", QuoteForMessage(host),
                                          "\" is not known here (", gai_strerror(error),
                                          "): is it spelt as the network knows it?"));
}

}  // namespace engram::cli
