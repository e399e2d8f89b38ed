#include "tests/cluster/partitioned_stores.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace engram::integration {

PartitionedStores::PartitionedStores(const ScratchDirectory& scratch, uint32_t partitions,
                                     uint32_t replicas, const std::vector<std::string>& flags) {
  for (uint32_t p = 0; p < partitions; ++p) {
    for (uint32_t r = 0; r < replicas; ++r) {
      const std::string address =
          absl::StrCat("unix:", scratch / absl::StrCat("p", p, "of", partitions, "r", r));
      std::vector<std::string> all = {
          "--table-set", scratch / "set", "--partition",         absl::StrCat(p, "/", partitions),
          "--listen",    address,         "--admin-grpc-listen", address + ".admin"};
      all.insert(all.end(), flags.begin(), flags.end());
      stores_.push_back(std::make_unique<EngramdProcess>(all));
      addresses_.push_back(address);
    }
  }
  for (const auto& store : stores_) store->WaitUntilServing();
}

std::string PartitionedStores::target() const {
  return absl::StrCat("cluster:", absl::StrJoin(addresses_, ","));
}

}  // namespace engram::integration
