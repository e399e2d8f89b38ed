// The Prefetcher: slots, the fetch and its threads. Contract: prefetcher.h.
//
// Prefetch copies the request into a slot and passes it to the issuing thread; that one passes it
// to the landing thread where something is left to wait for; a third ends what is late. The
// destructor ends what is under way and joins all three.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "gpu/prefetch/deadline_watch.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/prefetch/row_fetch.h"
#include "gpu/prefetch/slot_queue.h"
#include "gpu/prefetch/step_slot.h"

namespace engram {

class StepPrefetcher final : public Prefetcher {
 public:
  static absl::StatusOr<std::unique_ptr<Prefetcher>> Make(Transport& transport, Device& device,
                                                          const PrefetcherOptions& options);
  ~StepPrefetcher() override;

  absl::StatusOr<StepTicket> Prefetch(const Step& step) override;
  absl::Status Wait(const StepTicket& ticket, uint32_t layer, Stream& stream) override;
  absl::Status Finish(const StepTicket& ticket) override;
  void Cancel(const StepTicket& ticket) override;
  absl::StatusOr<PlacedRows> Rows(const StepTicket& ticket, uint32_t layer) const override;
  HotCacheCounts hot_cache() const override { return fetch_->hot_cache(); }

 private:
  StepPrefetcher(Transport& transport, Device& device, const PrefetcherOptions& options);

  absl::Status MakeSlots();
  absl::Status MakeFetch();
  absl::Status StartThreads();
  void Issue();  // the threads' bodies
  void Land();
  // Before the fetch of the others is begun.
  void LandLayersOfNoColumns(StepSlot& slot);

  absl::Status CheckStep(const Step& step) const;
  // The copy of device ids that the transport needs on the host, behind what makes them.
  absl::Status EnqueueIds(const Step& step, StepSlot& slot);
  // INVALID_ARGUMENT where there is none.
  absl::StatusOr<size_t> LayerIndex(uint32_t layer) const;
  // The slot while it is the ticket's and not finished, else null.
  StepSlot* Find(const StepTicket& ticket) const;

  Transport& transport_;
  Device& device_;
  const PrefetcherOptions options_;
  const StepLayout layout_;
  std::vector<uint32_t> layer_numbers_;
  std::shared_ptr<const Addresser> addresser_;

  DeviceBuffer words_;         // pinned: kStatusWordStride a slot and layer
  DeviceBuffer device_words_;  // as streams have last seen them: [slots][layers]
  std::vector<std::unique_ptr<StepSlot>> slots_;
  std::vector<absl::Span<std::byte>> registered_;  // with the transport
  uint64_t last_step_ = 0;

  std::unique_ptr<Stream> ids_stream_;  // the caller's thread enqueues
  std::unique_ptr<Stream> side_;        // the fetch's threads do, one at a time
  std::unique_ptr<RowFetch> fetch_;
  std::unique_ptr<DeadlineWatch> watch_;
  SlotQueue issue_queue_;
  SlotQueue land_queue_;
  std::thread issuer_;
  std::thread lander_;
};

}  // namespace engram
