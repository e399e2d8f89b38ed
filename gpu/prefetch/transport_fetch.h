// Rows of a step over a Transport.
//
// Where the transport gathers in its caller's thread (embedded, mapped shared memory), Issue does
// all of it, a batch a layer, so that the first layer is in place before the second is begun. Else
// Issue submits one batch, its layers in the order of need, and Land waits for them one by one.
//
// With a hot cache both threads use the side stream (Issue looks groups up, Land places what came):
// a lock orders them, held while work is enqueued and for one look-up a group.
#pragma once

#include <memory>
#include <vector>

#include "client/transport/row_deduplicator.h"
#include "client/transport/transport.h"
#include "gpu/prefetch/hot_rows.h"
#include "gpu/prefetch/row_fetch.h"
#include "gpu/prefetch/row_placer.h"
#include "memstore/base/mutex.h"

namespace engram {

class TransportFetch : public RowFetch {
 public:
  // All outlive it.
  TransportFetch(Transport& transport, const Addresser& addresser, const StepLayout& layout,
                 const PrefetcherOptions& options, Stream& side)
      : transport_(transport),
        addresser_(addresser),
        layout_(layout),
        distinct_(options.distinct),
        placer_(layout, options.place_rows, side),
        side_(side),
        requests_(layout.layers.size()) {}
  ~TransportFetch() override;

  // Before the first step. Errors of HotCache::Create.
  absl::Status AddHotCache(uint64_t bytes, Device& device);

  bool Issue(StepSlot& slot) override;
  void Land(StepSlot& slot) override;
  void Cancel(StepSlot& slot) override;
  HotCacheCounts hot_cache() const override;

 private:
  // Submits the whole step as one batch; unless OK, nothing is under way.
  absl::Status SubmitStep(StepSlot& slot);
  // The layer's row ids, and from those that are to travel its request.
  absl::Status PlanLayer(StepSlot& slot, size_t layer, LayerRequest* request);
  void MakeDistinct(StepSlot& slot, size_t layer);
  // Fetches one layer in this thread.
  absl::Status GatherLayer(StepSlot& slot, size_t layer, const LayerRequest& request);
  // The layer's rows have landed: to their place. When it returns nothing moves them any more.
  absl::Status BringToPlace(StepSlot& slot, size_t layer);
  absl::Status EnqueuePlacing(StepSlot& slot, size_t layer);
  // Until nothing that was enqueued for any step reads or writes its buffers.
  void Settle();

  Transport& transport_;
  const Addresser& addresser_;
  const StepLayout& layout_;
  const bool distinct_;
  RowPlacer placer_;
  Stream& side_;
  mutable Mutex side_mutex_;  // of the side stream, and of what the hot cache does on it
  std::unique_ptr<HotRows> hot_ ABSL_PT_GUARDED_BY(side_mutex_);  // null: none
  RowDeduplicator deduplicator_;
  std::vector<LayerRequest> requests_;  // the issuing thread's, reused
  std::vector<uint32_t> inverse_;       // the same
};

}  // namespace engram
