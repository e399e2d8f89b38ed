// A worker of another workspace: prefetches the rows of three tokens to the host as a device, waits
// for every layer's on a stream, and knows each public header of the worker side.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "engram/client/client.h"
#include "engram/gpu/device/device.h"
#include "engram/gpu/device/status_word.h"
#include "engram/gpu/kernels/address_loop.h"
#include "engram/gpu/kernels/bf16_values.h"
#include "engram/gpu/kernels/dequantize.h"
#include "engram/gpu/kernels/dequantize_host.h"
#include "engram/gpu/kernels/dequantize_loop.h"
#include "engram/gpu/kernels/device_addresser.h"
#include "engram/gpu/prefetch/dequantize_on_arrival.h"
#include "engram/gpu/prefetch/prefetcher.h"
#include "engram/memstore/addressing/ngram_hash.h"

namespace {

absl::Status PrefetchOnce(engram::Client& client) {
  const auto device = engram::OpenDevice(engram::DeviceKind::kHost, {});
  if (!device.ok()) return device.status();
  const auto stream = (*device)->MakeStream("compute");
  if (!stream.ok()) return stream.status();
  const auto prefetcher =
      engram::Prefetcher::Create(client.transport(), **device, {.max_tokens = 3});
  if (!prefetcher.ok()) return prefetcher.status();
  const std::vector<int32_t> token_ids = {1, 2, 3};
  const engram::SequenceTokens sequence{engram::Addresser::Start(), 3};
  const auto step = (*prefetcher)
                        ->Prefetch({.sequences = {&sequence, 1},
                                    .token_ids = token_ids,
                                    .deadline = engram::RealClock().After(absl::Seconds(10))});
  if (!step.ok()) return step.status();
  absl::Status status;
  for (const engram::LayerTableSpec& layer : client.table_set().layers) {
    status.Update((*prefetcher)->Wait(*step, layer.layer, **stream));
  }
  status.Update((*stream)->Synchronize());
  status.Update((*prefetcher)->Finish(*step));
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  const auto client = engram::Client::Attach(argc > 1 ? argv[1] : "", {});
  if (!client.ok()) return std::puts(client.status().ToString().c_str()), 1;
  const absl::Status status = PrefetchOnce(**client);
  std::printf("%s: %s\n", (*client)->table_set().id.c_str(), status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
