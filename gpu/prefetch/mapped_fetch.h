// Rows of a step by kernels on the side stream, which read mapped tables in place.
//
// Issue enqueues everything: ids to the device, a gather a layer, the placing. Land waits for each
// layer's event and then asks the owner's control page whether what was read counts. No thread of
// the host touches a row.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/transport/transport.h"
#include "gpu/kernels/mapped_gather.h"
#include "gpu/prefetch/row_fetch.h"
#include "gpu/prefetch/row_placer.h"

namespace engram {

class MappedFetch : public RowFetch {
 public:
  // Registers the tables with the device: pins them, which takes a while. FAILED_PRECONDITION: the
  // transport maps none; else Device::Register's errors. All arguments outlive it.
  static absl::StatusOr<std::unique_ptr<RowFetch>> Make(Transport& transport, Device& device,
                                                        const Addresser& addresser,
                                                        const StepLayout& layout,
                                                        const PrefetcherOptions& options,
                                                        Stream& side);

  bool Issue(StepSlot& slot) override;
  void Land(StepSlot& slot) override;
  void Cancel(StepSlot&) override {}  // what is enqueued is short

 private:
  MappedFetch(Transport& transport, bool one_memory, const Addresser& addresser,
              const StepLayout& layout, const PrefetcherOptions& options, Stream& side)
      : transport_(transport),
        one_memory_(one_memory),
        addresser_(addresser),
        layout_(layout),
        multiprocessors_(options.mapped_multiprocessors),
        placer_(layout, options.place_rows, side),
        side_(side) {}

  // What row ids that the device makes are held against.
  absl::Status MakeColumns(Device& device);
  // The layer's ids, where the device will have them.
  absl::Status BringIds(StepSlot& slot, size_t layer, const RowId** ids);
  absl::Status EnqueueLayer(StepSlot& slot, size_t layer);
  absl::Status BadIds(const StepSlot& slot, size_t layer) const;

  Transport& transport_;
  const bool one_memory_;  // the device reads the host's
  const Addresser& addresser_;
  const StepLayout& layout_;
  const uint32_t multiprocessors_;
  RowPlacer placer_;
  Stream& side_;
  std::vector<std::unique_ptr<RegisteredMemory>> registered_;
  std::vector<GatherTable> tables_;  // as the device sees them
  DeviceBuffer columns_;             // a TableRowRange for each column of each layer's slice
};

}  // namespace engram
