// The stores behind a name: every A and AAAA record, looked up again every kLookUpPeriod, and soon
// after LookAgain.
#pragma once

#include <memory>
#include <thread>

#include "client/cluster/discovery/discovery.h"
#include "client/cluster/discovery/known_addresses.h"
#include "memstore/base/mutex.h"

namespace engram {

class DnsDiscovery final : public Discovery {
 public:
  // As long as records of a headless Service live.
  static constexpr absl::Duration kLookUpPeriod = absl::Seconds(30);
  // Between two look-ups at least, however often it is asked for: many workers ask at once.
  static constexpr absl::Duration kLookUpSpace = absl::Seconds(1);

  static absl::StatusOr<std::unique_ptr<Discovery>> Start(const ClusterTarget& target,
                                                          const DiscoveryOptions& options,
                                                          Clock& clock);
  ~DnsDiscovery() override;

  std::vector<StoreAddress> addresses() const override { return known_.addresses(); }
  absl::Status status() const override { return known_.status(); }
  void LookAgain() override;

 private:
  DnsDiscovery(const ClusterTarget& target, const DiscoveryOptions& options, Clock& clock);
  absl::Status LookUp();
  // Until the next look-up is due. False: it is to end.
  bool WaitUntilDue(MonotonicTime last);
  void Run();

  const std::string name_, port_, tls_server_name_;
  const Resolver resolver_;
  Clock& clock_;
  KnownAddresses known_;
  Mutex mutex_;
  CondVar changed_;
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace engram
