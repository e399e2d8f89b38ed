// The files of one end of TLS, looked at again and again, and handed on once they were checked.
//
// gRPC watches files itself and takes whatever is there: one that is empty for a moment, as a copy
// in place makes it, ends the process, and a key that does not fit fails every handshake. So gRPC
// is given paths of ours (PemSlot), and what it finds there was checked (pem.h). A change is acted
// on when two looks in a row have read the same: what is just being written is neither used nor
// complained of. Key and certificate are one matter, authorities another: that one can't be used
// does not keep the other's news back.
//
// Watches of the same files share their looks, and their slots, which stay until the process ends:
// two descriptors for each different set of files. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

class WatchedPem;

class PemWatch {
 public:
  struct Files {
    std::string cert = {};  // PEM; with `key`, or neither
    std::string key = {};
    std::string authorities = {};  // PEM; may be empty
    bool for_server = false;       // `cert` is a server's own (CheckServerCertificate)
  };
  // A change of `files` ("CERT and KEY", or AUTHORITIES). OK: they are used from now on. Else why
  // they are not, once for each reason; what was read before stays. Called by a thread of the
  // watch's; it may not make or destroy one.
  using OnChange = std::function<void(const absl::Status& status, absl::string_view files)>;

  // Reads and checks them, unless another watch has the same ones and sees to it; pem.h and
  // PemSlot::Put have the errors, and RESOURCE_EXHAUSTED says that there is no thread. A null
  // `on_change` asks for nothing.
  static absl::StatusOr<std::unique_ptr<PemWatch>> Open(const Files& files, OnChange on_change);
  // Once it is gone `on_change` is not called any more.
  ~PemWatch();
  PemWatch(const PemWatch&) = delete;
  PemWatch& operator=(const PemWatch&) = delete;

  // Where the key and its chain are, in one file, and the authorities: good until the process ends.
  // Empty where there are none.
  std::string PairPath() const;
  std::string AuthoritiesPath() const;
  // When the certificate that is used expires, in seconds since 1970; 0 where there is none.
  double Expiry() const;
  // Why files are not used as they are now; OK when they are.
  absl::Status Refusal() const;

 private:
  friend class WatchedPem;
  PemWatch(WatchedPem* watched, OnChange on_change);

  WatchedPem* const watched_;
  const OnChange on_change_;
};

}  // namespace engram
