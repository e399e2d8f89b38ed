// An RDMA device that was chosen and opened: one port, one address (GID), what it can do.
//
// Immutable after Open and thread-safe; shared by all that is made on it. RoCE v2 addresses are
// preferred, IPv4 ones first. Verbs are called directly; librdmacm only answers which device leads
// to an address.
#pragma once

#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

using RdmaGid = std::array<uint8_t, 16>;

struct RdmaDeviceChoice {
  std::string device;
  uint8_t port = 1;
  int gid_index = -1;  // -1: the best there is
  friend bool operator==(const RdmaDeviceChoice&, const RdmaDeviceChoice&) = default;
};

// DEV[:PORT[:GID]], as in "mlx5_0:1:3". INVALID_ARGUMENT says what is wrong.
absl::StatusOr<RdmaDeviceChoice> ParseRdmaDeviceChoice(absl::string_view text);

// Names of the devices there are.
std::vector<std::string> RdmaDeviceNames();
// The device, port and GID that lead to `peer` by this host's routes. NOT_FOUND when none does or
// the kernel's connection manager is not there.
absl::StatusOr<RdmaDeviceChoice> RdmaRouteTo(const RdmaGid& peer);

class RdmaDevice {
 public:
  // NOT_FOUND: no such device, port or GID; PERMISSION_DENIED: it can't be opened; UNAVAILABLE: the
  // port is down. Messages list what there is and what to do.
  static absl::StatusOr<std::shared_ptr<const RdmaDevice>> Open(const RdmaDeviceChoice& choice);
  ~RdmaDevice();
  RdmaDevice(const RdmaDevice&) = delete;
  RdmaDevice& operator=(const RdmaDevice&) = delete;

  ibv_context* context() const { return context_; }
  std::string Name() const;  // "rxe0:1:1"
  uint8_t port() const { return port_; }
  int gid_index() const { return gid_index_; }
  const RdmaGid& gid() const { return gid_; }
  uint16_t lid() const { return lid_; }
  ibv_mtu mtu() const { return mtu_; }
  bool is_ethernet() const { return is_ethernet_; }
  const ibv_device_attr& attributes() const { return attributes_; }
  // Whether pages may be registered without pinning them.
  bool pages_on_demand() const { return pages_on_demand_; }
  int numa_node() const { return numa_node_; }  // -1: none is said
  // UNAVAILABLE when the port is not active now.
  absl::Status CheckPort() const;

 private:
  RdmaDevice() = default;
  absl::Status ChooseGid(int wanted);

  ibv_context* context_ = nullptr;
  uint8_t port_ = 1;
  int gid_index_ = -1;
  RdmaGid gid_{};
  uint16_t lid_ = 0;
  ibv_mtu mtu_ = IBV_MTU_1024;
  bool is_ethernet_ = true;
  ibv_device_attr attributes_{};
  bool pages_on_demand_ = false;
  int numa_node_ = -1;
};

}  // namespace engram
