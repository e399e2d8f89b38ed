// The Lookup service as its calls wait on it: by the Request... methods of this class.
//
// All methods take raw buffers, under their registered names, so that reflection and every
// language's stubs find them as they are described: lookups for their cost, the others so that
// nothing is parsed before its size and its sender are known (small_message.h). Calls need no more
// of the service than this; what answers Describe and Attach is LookupService (lookup_service.h),
// which is one.
#pragma once

#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {

using LookupRequests = v1::Lookup::WithRawMethod_LookupStream<v1::Lookup::WithRawMethod_Lookup<
    v1::Lookup::WithRawMethod_Describe<v1::Lookup::WithRawMethod_AttachRdma<
        v1::Lookup::WithRawMethod_Watch<v1::Lookup::WithRawMethod_Attach<v1::Lookup::Service>>>>>>;

}  // namespace engram
