// Addresses as a person writes them: a bare HOST:PORT, a socket's path, a host that nobody knows.
// Stateless, thread-safe; looks at the file system and asks the resolver.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram::cli {

// `text` as ParseTarget takes it: HOST:PORT is grpc:HOST:PORT, and a path (one that begins with a
// slash, one without a colon that has a slash or ends with .sock, or what is behind
// unix:) is shm:PATH or grpc:unix:PATH by the type of the socket that listens there, which the
// kernel tells. INVALID_ARGUMENT: ParseTarget's, or a path where nobody listens, which names both
// forms.
absl::StatusOr<std::string> WholeTarget(const std::string& text);

// HOST:PORT or unix:PATH of an operators' port, where a bare path is a socket's. INVALID_ARGUMENT
// names the forms.
absl::StatusOr<std::string> AdminAddress(const std::string& text);

// NOT_FOUND when the host of `place` (HOST:PORT, or unix:PATH, which has none) is a name that the
// resolver knows not to be there. Whatever may pass (a resolver that does not answer) is OK.
absl::Status CheckHostIsKnown(absl::string_view place);

}  // namespace engram::cli
