// The Lookup service as its calls wait on it.
//
// All methods take raw bytes (raw_service.h): lookups for their cost, the others so that nothing is
// parsed before its size and its sender are known (small_message.h). Calls need no more of the
// service than this; what answers Describe and Attach is LookupService (lookup_service.h), which is
// one.
#pragma once

#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/grpc/raw_service.h"

namespace engram {

class LookupRequests : public RawService {
 public:
  enum Method : int { kLookup, kLookupStream, kDescribe, kAttach, kAttachRdma, kWatch, kHoldings };

  LookupRequests()
      : RawService(v1::Lookup::service_full_name(), {"Lookup", "LookupStream", "Describe", "Attach",
                                                     "AttachRdma", "Watch", "Holdings"}) {}
};

}  // namespace engram
