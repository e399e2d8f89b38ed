#include "client/transport/auto/auto_choice.h"

#include "absl/strings/str_cat.h"

namespace engram {

AutoChoice ChooseWay(const AutoFindings& findings) {
  std::string why;
  if (findings.shm_socket.empty()) {
    why = "no shm: the owner offers none";
  } else if (!findings.socket_is_here) {
    why =
        absl::StrCat("no shm: the owner's socket ", findings.shm_socket, " is not on this machine");
  } else if (!findings.shm.has_value() || findings.shm->ok()) {
    return {AutoWay::kShm, findings.shm.has_value(), ""};
  } else {
    why = absl::StrCat("no shm: ", findings.shm->message());
  }
  if (!findings.rdma.has_value() || findings.rdma->ok()) {
    return {AutoWay::kRdma, findings.rdma.has_value(), why};
  }
  return {AutoWay::kGrpc, true, absl::StrCat(why, "; no rdma: ", findings.rdma->message())};
}

}  // namespace engram
