// What the guest has to have for everything else here: a verbs device with an active port and a
// RoCE v2 address.
#include <infiniband/verbs.h>

#include <cstdlib>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(GuestDevice, IsThereWithAnActivePortAndAnAddress) {
  int count = 0;
  ibv_device** const devices = ibv_get_device_list(&count);
  ASSERT_GE(count, 1);
  EXPECT_STREQ(ibv_get_device_name(devices[0]), std::getenv("RDMA_DEV"));
  ibv_context* const context = ibv_open_device(devices[0]);
  ASSERT_NE(context, nullptr);
  ibv_port_attr port{};
  ASSERT_EQ(ibv_query_port(context, 1, &port), 0);
  EXPECT_EQ(port.state, IBV_PORT_ACTIVE);
  EXPECT_EQ(port.active_mtu, IBV_MTU_4096);
  ibv_gid_entry gid{};
  EXPECT_EQ(ibv_query_gid_ex(context, 1, std::atoi(std::getenv("RDMA_GID_INDEX")), &gid, 0), 0);
  EXPECT_EQ(gid.gid_type, IBV_GID_TYPE_ROCE_V2);
  ibv_close_device(context);
  ibv_free_device_list(devices);
}

}  // namespace
}  // namespace engram
