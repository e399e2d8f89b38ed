#include "memstore/discovery/etcd_security.h"

#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace engram {
namespace {

absl::StatusOr<std::string> Read(const std::string& text) {
  const std::string path = testing::TempDir() + "/etcd_password";
  std::ofstream(path) << text;
  return ReadEtcdPassword(path);
}

TEST(EtcdPassword, IsTheFilesLine) {
  EXPECT_EQ(Read("secret").value(), "secret");
  EXPECT_EQ(Read("secret\n").value(), "secret");
  EXPECT_EQ(Read("secret\r\n").value(), "secret");
  EXPECT_EQ(Read(" two words \n").value(), " two words ");
}

TEST(EtcdPassword, IsRefusedWhereThereIsNone) {
  EXPECT_EQ(Read("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Read("\n").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Read(std::string(5000, 'x')).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadEtcdPassword("/nowhere/at/all").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace engram
