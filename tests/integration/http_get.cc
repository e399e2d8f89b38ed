#include "tests/integration/http_get.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace engram::integration {

int ConnectTo(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  uint32_t port = 0;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &port)) return -1;
  to.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) return fd;
  close(fd);
  return -1;
}

std::string HttpGet(const std::string& address, const std::string& path) {
  const int fd = ConnectTo(address);
  if (fd < 0) return {};
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: ", address, "\r\nConnection: close\r\n\r\n");
  std::string answer;
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) ==
      static_cast<ssize_t>(request.size())) {
    char buffer[65536];
    for (ssize_t bytes = 0; (bytes = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, bytes);
    }
  }
  close(fd);
  return answer;
}

double MetricValue(const std::string& page, const std::string& name_and_labels) {
  const size_t at = page.find(absl::StrCat("\n", name_and_labels, " "));
  if (at == std::string::npos) return -1;
  const size_t begin = at + 1 + name_and_labels.size() + 1;
  double value = -1;
  if (!absl::SimpleAtod(page.substr(begin, page.find('\n', begin) - begin), &value)) return -1;
  return value;
}

}  // namespace engram::integration
