// The Lookup service as its calls wait on it: by the Request... methods of this class.
//
// Lookup and LookupStream take raw buffers, under their registered names, so that reflection and
// every language's stubs find them as they are described. Calls need no more of the service than
// this; what answers Describe and Attach is LookupService (lookup_service.h), which is one.
#pragma once

#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {

using LookupRequests = v1::Lookup::WithRawMethod_LookupStream<
    v1::Lookup::WithRawMethod_Lookup<v1::Lookup::WithAsyncMethod_Describe<
        v1::Lookup::WithAsyncMethod_AttachRdma<v1::Lookup::WithAsyncMethod_Watch<
            v1::Lookup::WithAsyncMethod_Attach<v1::Lookup::Service>>>>>>;

}  // namespace engram
