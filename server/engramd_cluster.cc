// What engramd says of itself to those who look for stores.
#include <utility>

#include "memstore/base/status_macros.h"
#include "server/engramd.h"

namespace engram {

// Last: whoever finds it may connect. Whether etcd answers is of no account here.
absl::Status Engramd::StartRegistration() {
  if (!config_.register_place) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<Registration> registration,
                          Registration::Start({.place = *config_.register_place,
                                               .address = config_.advertise,
                                               .instance_id = store_status_->instance_id(),
                                               .security = config_.register_security},
                                              clock_, log_));
  MutexLock lock(watched_mutex_);
  registration_ = std::move(registration);
  return absl::OkStatus();
}

// The thread of it waits for etcd, and nobody for the thread: not while others look.
void Engramd::EndRegistration() {
  std::unique_ptr<Registration> registration;
  MutexLock lock(watched_mutex_);
  registration = std::move(registration_);
  lock.Unlock();
}

}  // namespace engram
