#include "memstore/rdma/device.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <rdma/rdma_cma.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace engram {
namespace {

constexpr int kRouteTimeoutMs = 2000;
// Tables of GIDs have up to a few hundred entries.
constexpr int kMaxGids = 1024;

struct DeviceList {
  DeviceList() : all(ibv_get_device_list(&count)) {}
  ~DeviceList() {
    if (all != nullptr) ibv_free_device_list(all);
  }
  DeviceList(const DeviceList&) = delete;
  DeviceList& operator=(const DeviceList&) = delete;
  int count = 0;
  ibv_device** const all;
};

std::string WhatThereIs() {
  const std::vector<std::string> names = RdmaDeviceNames();
  if (!names.empty()) return absl::StrCat("there are: ", absl::StrJoin(names, ", "));
  return "there is none: load the NIC's driver, or for a test `rdma link add rxe0 type rxe netdev "
         "IFACE`; see `ibv_devices`";
}

bool IsIpv4(const RdmaGid& gid) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(std::begin(kMapped), std::end(kMapped), gid.begin());
}

bool IsLinkLocal(const RdmaGid& gid) { return gid[0] == 0xfe && gid[1] == 0x80; }

// The higher the better; 0: not one to use.
int Rank(const ibv_gid_entry& entry, const RdmaGid& gid) {
  if (std::all_of(gid.begin(), gid.end(), [](uint8_t byte) { return byte == 0; })) return 0;
  if (entry.gid_type == IBV_GID_TYPE_ROCE_V2) return IsIpv4(gid) ? 5 : IsLinkLocal(gid) ? 3 : 4;
  return entry.gid_type == IBV_GID_TYPE_IB ? 2 : 1;
}

RdmaGid BytesOf(const ibv_gid& gid) {
  RdmaGid bytes;
  std::copy(std::begin(gid.raw), std::end(gid.raw), bytes.begin());
  return bytes;
}

// The number that stands in a file of a device's folder in sysfs; -1 when there is none.
int SysfsNumber(const char* device, const char* file) {
  std::ifstream in(absl::StrCat("/sys/class/infiniband/", device, "/", file));
  int number = -1;
  return in >> number ? number : -1;
}

struct EventChannel {
  EventChannel() : channel(rdma_create_event_channel()) {}
  ~EventChannel() {
    if (id != nullptr) rdma_destroy_id(id);
    if (channel != nullptr) rdma_destroy_event_channel(channel);
  }
  EventChannel(const EventChannel&) = delete;
  EventChannel& operator=(const EventChannel&) = delete;
  rdma_event_channel* const channel;
  rdma_cm_id* id = nullptr;
};

}  // namespace

absl::StatusOr<RdmaDeviceChoice> ParseRdmaDeviceChoice(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  RdmaDeviceChoice choice{.device = parts[0]};
  int port = 1;
  const bool fine =
      !choice.device.empty() && parts.size() <= 3 &&
      (parts.size() < 2 || (absl::SimpleAtoi(parts[1], &port) && port >= 1 && port <= 255)) &&
      (parts.size() < 3 || (absl::SimpleAtoi(parts[2], &choice.gid_index) &&
                            choice.gid_index >= 0 && choice.gid_index < kMaxGids));
  if (!fine) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a device: write DEV[:PORT[:GID]], as in mlx5_0:1:3"));
  }
  choice.port = static_cast<uint8_t>(port);
  return choice;
}

std::vector<std::string> RdmaDeviceNames() {
  const DeviceList devices;
  std::vector<std::string> names;
  for (int i = 0; i < devices.count; ++i) names.push_back(ibv_get_device_name(devices.all[i]));
  return names;
}

absl::StatusOr<RdmaDeviceChoice> RdmaRouteTo(const RdmaGid& peer) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  std::memcpy(&v4.sin_addr, &peer[12], 4);
  std::memcpy(&v6.sin6_addr, peer.data(), peer.size());
  auto* const to =
      IsIpv4(peer) ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
  EventChannel events;
  if (events.channel == nullptr ||
      rdma_create_id(events.channel, &events.id, nullptr, RDMA_PS_TCP) != 0) {
    return absl::NotFoundError("no rdma_cm: load the kernel module rdma_ucm");
  }
  if (rdma_resolve_addr(events.id, nullptr, to, kRouteTimeoutMs) != 0) {
    return absl::NotFoundError(absl::StrCat("no route: ", strerrordesc_np(errno)));
  }
  pollfd wait{events.channel->fd, POLLIN, 0};
  rdma_cm_event* event = nullptr;
  if (poll(&wait, 1, 2 * kRouteTimeoutMs) != 1 || rdma_get_cm_event(events.channel, &event) != 0) {
    return absl::NotFoundError("no route was found in time");
  }
  const bool resolved = event->event == RDMA_CM_EVENT_ADDR_RESOLVED;
  rdma_ack_cm_event(event);
  if (!resolved || events.id->verbs == nullptr) {
    return absl::NotFoundError("no RDMA device leads there");
  }
  RdmaDeviceChoice choice{.device = ibv_get_device_name(events.id->verbs->device),
                          .port = events.id->port_num};
  const ibv_gid& own = events.id->route.addr.addr.ibaddr.sgid;
  for (int i = 0; i < kMaxGids; ++i) {
    ibv_gid_entry entry{};
    if (ibv_query_gid_ex(events.id->verbs, choice.port, i, &entry, 0) != 0) continue;
    if (BytesOf(entry.gid) != BytesOf(own) || entry.gid_type == IBV_GID_TYPE_ROCE_V1) continue;
    choice.gid_index = i;
    break;
  }
  return choice;
}

absl::StatusOr<std::shared_ptr<const RdmaDevice>> RdmaDevice::Open(const RdmaDeviceChoice& choice) {
  const DeviceList devices;
  ibv_device* found = nullptr;
  for (int i = 0; i < devices.count; ++i) {
    if (ibv_get_device_name(devices.all[i]) == choice.device) found = devices.all[i];
  }
  if (found == nullptr) {
    return absl::NotFoundError(absl::StrCat("no RDMA device ", choice.device, "; ", WhatThereIs()));
  }
  std::shared_ptr<RdmaDevice> device(new RdmaDevice);
  device->context_ = ibv_open_device(found);
  if (device->context_ == nullptr) {
    return absl::PermissionDeniedError(
        absl::StrCat("RDMA device ", choice.device, " can't be opened (", strerrordesc_np(errno),
                     "): this user has to be able to read and write /dev/infiniband/uverbs*"));
  }
  device->port_ = choice.port;
  ibv_port_attr port{};
  if (ibv_query_device(device->context_, &device->attributes_) != 0 ||
      ibv_query_port(device->context_, choice.port, &port) != 0) {
    return absl::NotFoundError(absl::StrCat("RDMA device ", choice.device, " has no port ",
                                            choice.port, ": its ports are 1 to ",
                                            device->attributes_.phys_port_cnt));
  }
  device->lid_ = port.lid;
  device->mtu_ = port.active_mtu;
  device->is_ethernet_ = port.link_layer == IBV_LINK_LAYER_ETHERNET;
  ibv_device_attr_ex more{};
  if (ibv_query_device_ex(device->context_, nullptr, &more) == 0) {
    device->pages_on_demand_ =
        (more.odp_caps.general_caps & IBV_ODP_SUPPORT) != 0 &&
        (more.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_READ) != 0;
  }
  device->numa_node_ = SysfsNumber(choice.device.c_str(), "device/numa_node");
  if (absl::Status status = device->ChooseGid(choice.gid_index); !status.ok()) return status;
  if (absl::Status status = device->CheckPort(); !status.ok()) return status;
  return device;
}

RdmaDevice::~RdmaDevice() {
  if (context_ != nullptr) ibv_close_device(context_);
}

std::string RdmaDevice::Name() const {
  return absl::StrCat(ibv_get_device_name(context_->device), ":", port_, ":", gid_index_);
}

absl::Status RdmaDevice::ChooseGid(int wanted) {
  int best = 0;
  for (int i = 0; i < kMaxGids; ++i) {
    ibv_gid_entry entry{};
    if (ibv_query_gid_ex(context_, port_, i, &entry, 0) != 0) continue;
    const RdmaGid gid = BytesOf(entry.gid);
    const int rank = wanted >= 0 ? static_cast<int>(i == wanted) : Rank(entry, gid);
    if (rank <= best) continue;
    best = rank;
    gid_index_ = i;
    gid_ = gid;
  }
  if (best > 0) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(ibv_get_device_name(context_->device), " port ", port_, " has no GID ",
                   wanted >= 0 ? absl::StrCat(wanted) : std::string("to use"),
                   ": give its network interface an address; see `show_gids` or /sys/class/"
                   "infiniband/*/ports/*/gids"));
}

absl::Status RdmaDevice::CheckPort() const {
  ibv_port_attr port{};
  if (ibv_query_port(context_, port_, &port) == 0 && port.state == IBV_PORT_ACTIVE) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("RDMA port ", Name(), " is ",
                                             ibv_port_state_str(port.state),
                                             ": bring its network interface up"));
}

}  // namespace engram
