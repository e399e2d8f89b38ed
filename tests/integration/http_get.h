// A GET over a plain socket, for tests.
#pragma once

#include <string>

namespace engram::integration {

int ConnectTo(const std::string& address);  // "127.0.0.1:PORT"; -1 when nobody listens
// Headers and body; empty when there was no answer.
std::string HttpGet(const std::string& address, const std::string& path);
// The value of a metric as /metrics shows it, "name{labels}"; -1 when it is not there.
double MetricValue(const std::string& page, const std::string& name_and_labels);

}  // namespace engram::integration
