// A worker in sixty lines: prefills one sequence in chunks, chunk k+1 fetched while chunk k runs,
// and writes what its layers read, [tokens, layers, columns * row_bytes], to standard output.
//
//   example_worker TARGET < TOKEN_IDS > ROWS
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "client/client.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/prefetcher.h"
#include "memstore/base/clock.h"
#include "memstore/os/standard_streams.h"

using namespace engram;

namespace {

void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << "example_worker: " << status << "\n";
  std::_Exit(1);  // threads of the worker are running
}
template <typename T>
T Must(absl::StatusOr<T> result) {
  Must(result.status());
  return *std::move(result);
}

}  // namespace

int main(int count, char** arguments) {
  EnsureStandardStreams("example_worker");
  Must(CheckStandardInput());
  Must(CheckStandardOutput());
  constexpr size_t kChunkTokens = 256;
  std::string input(std::istreambuf_iterator<char>(std::cin), {});
  const auto* const ids = reinterpret_cast<const int32_t*>(input.data());
  const size_t tokens = input.size() / sizeof(int32_t);

  const auto client = Must(Client::Attach(count == 2 ? arguments[1] : "", {}));
  auto opened = OpenDevice(DeviceKind::kCuda, {});
  const auto device = opened.ok() ? *std::move(opened) : Must(OpenDevice(DeviceKind::kHost, {}));
  const auto stream = Must(device->MakeStream("compute"));
  const auto prefetcher = Must(
      Prefetcher::Create(client->transport(), *device, {.max_tokens = kChunkTokens, .slots = 2}));
  const auto& layers = client->table_set().layers;
  const size_t row_bytes = layers[0].row_bytes;  // the same in all layers of this example's models
  const size_t token_bytes = client->table_set().scheme.Columns() * row_bytes;
  const DeviceBuffer read = Must(device->Allocate(  // what the layers read, to be written
      MemoryKind::kPinnedHost, layers.size() * kChunkTokens * token_bytes));

  SequenceState state = Addresser::Start();
  const auto prefetch = [&](size_t first) {
    const absl::Span<const int32_t> chunk(ids + first, std::min(kChunkTokens, tokens - first));
    const SequenceTokens sequence{state, static_cast<uint32_t>(chunk.size())};
    // A prompt is known, so it is committed at once; sampled tokens are after their step's Finish.
    Must(client->addresser().Advance(chunk, {}, &state));
    return Must(prefetcher->Prefetch({.sequences = {&sequence, 1},
                                      .token_ids = chunk,
                                      .deadline = RealClock().Now() + absl::Seconds(10)}));
  };
  StepTicket next = tokens > 0 ? prefetch(0) : StepTicket();
  for (size_t first = 0; first < tokens; first += kChunkTokens) {
    const size_t chunk = std::min(kChunkTokens, tokens - first);
    const StepTicket step = next;
    if (first + chunk < tokens) next = prefetch(first + chunk);
    for (size_t i = 0; i < layers.size(); ++i) {
      // ... here an engine enqueues the blocks before the layer ...
      Must(prefetcher->Wait(step, layers[i].layer, *stream));
      const PlacedRows rows = Must(prefetcher->Rows(step, layers[i].layer));
      Must(stream->Copy(read.data() + i * chunk * token_bytes, rows.rows, chunk * token_bytes));
    }
    Must(stream->Synchronize());     // where an engine reads the tokens it has sampled
    Must(prefetcher->Finish(step));  // not OK: nothing of this step may be used
    for (size_t place = 0; place < chunk * layers.size(); ++place) {
      const size_t from = place % layers.size() * chunk + place / layers.size();
      std::cout.write(read.as<char>() + from * token_bytes, token_bytes);
    }
  }
  Must(PrintToEnd(""));  // not OK: rows are missing
}
