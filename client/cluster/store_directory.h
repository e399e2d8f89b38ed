// What the stores of a cluster say of themselves now, and who is told when that changes: the seam
// between what hears them (store_watch.h, fakes in tests) and what asks them for rows
// (cluster_transport.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memstore/cluster/store_state.h"

namespace engram {

class StoreDirectory {
 public:
  // Told one thing after the other, by a thread of the directory's that it holds up.
  class Listener {
   public:
    // The store at this address said something; nothing that it holds has changed.
    virtual void StoreSpoke(const std::string& address) = 0;
    // What Heard returns is another now.
    virtual void HoldingsChanged() = 0;

   protected:
    ~Listener() = default;
  };

  // How often a store was not heard since one side does not take the other's certificate or token,
  // and since what it said cannot be true.
  struct Refusals {
    uint64_t strangers = 0;
    uint64_t left_out = 0;
  };

  virtual ~StoreDirectory() = default;

  // In the order in which it was heard, as SiftStores takes it.
  virtual std::vector<StoreState> Heard() const = 0;
  // Addresses that are known, and where nothing is heard.
  virtual std::vector<std::string> Unheard() const { return {}; }
  // False: what says where stores are does not answer; those that are known stay.
  virtual bool FindsAddresses() const { return true; }
  // Null: nobody. Once it has returned the listener before is not called any more. Not to be called
  // by a listener.
  virtual void SetListener(Listener* listener) = 0;
  virtual Refusals refusals() const { return {}; }
  // A store failed: addresses are looked up again soon. Returns at once.
  virtual void LookAgain() {}
};

}  // namespace engram
