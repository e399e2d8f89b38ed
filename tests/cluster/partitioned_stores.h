// A cluster of real programs: stores that have a partition each of one table set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {

// Stores of K/N of the set "set" of a directory, each at a Unix socket of its own in it, which
// serve once this is made. The operators' socket of the one at SOCKET is SOCKET.admin.
class PartitionedStores {
 public:
  PartitionedStores(const ScratchDirectory& scratch, uint32_t partitions, uint32_t replicas,
                    const std::vector<std::string>& flags = {});

  // Partition after partition.
  EngramdProcess& operator[](size_t i) { return *stores_[i]; }
  size_t size() const { return stores_.size(); }
  const std::vector<std::string>& addresses() const { return addresses_; }
  std::string admin_address(size_t i) const { return addresses_[i] + ".admin"; }
  std::string target() const;  // "cluster:..."

 private:
  std::vector<std::unique_ptr<EngramdProcess>> stores_;
  std::vector<std::string> addresses_;
};

}  // namespace engram::integration
