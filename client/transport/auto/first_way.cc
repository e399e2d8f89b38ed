#include "client/transport/auto/first_way.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "client/transport/shm/shm_transport.h"

namespace engram {
namespace {

// A socket that is here answers at once; the owner has been seen to be there.
constexpr absl::Duration kLocalTime = absl::Milliseconds(500);
constexpr absl::Duration kRdmaTime = absl::Seconds(5);

absl::StatusOr<std::unique_ptr<Transport>> Try(
    AutoWay way, const std::shared_ptr<const GrpcAttachment>& attachment,
    const std::string& shm_socket, const FirstWayOptions& options) {
  if (way == AutoWay::kShm) {
    // The set's id says what its rows are, so any owner of it will do.
    return ShmTransport::Attach(shm_socket, attachment->table_set().manifest.id, kLocalTime,
                                options.shm_mode, attachment->clock());
  }
  RdmaOptions rdma = options.rdma;
  rdma.timeout = std::min(rdma.timeout, kRdmaTime);
  return RdmaTransport::Create(attachment, rdma);
}

}  // namespace

FirstWay OpenFirstWay(const std::shared_ptr<const GrpcAttachment>& attachment,
                      AutoFindings findings, const FirstWayOptions& options) {
  findings.socket_is_here = access(findings.shm_socket.c_str(), F_OK) == 0;
  while (true) {
    AutoChoice choice = ChooseWay(findings);
    FirstWay first{.way = choice.way, .transport = nullptr, .why = std::move(choice.why)};
    if (choice.way != AutoWay::kGrpc) {
      absl::StatusOr<std::unique_ptr<Transport>> tried =
          Try(choice.way, attachment, findings.shm_socket, options);
      absl::Status status = tried.status();
      if (status.ok() && options.fits != nullptr) status = options.fits(**tried);
      (choice.way == AutoWay::kShm ? findings.shm : findings.rdma) = status;
      if (!status.ok()) continue;
      first.transport = *std::move(tried);
    }
    first.findings = std::move(findings);
    return first;
  }
}

}  // namespace engram
