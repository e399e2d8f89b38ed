// Rows of an engramd over RDMA: rdma:HOST:PORT. The client sends row ids, the owner gathers and
// writes rows to where they land; no copy is made here.
//
// Landing buffers are registered (Register) before a batch names them; each is a memory region that
// only this client's owner has the key of. Like the ring (shm_ring.h) it has no thread on the way
// of a lookup: whoever submits, polls or waits takes completions, under one lock; a wait spins for
// a short while, then sleeps on the completion channel. A batch that failed may still be written to
// until the owner has answered; Reap waits for that, and after a while moves the queue pair to
// error instead, so that nothing lands any more. When a connection breaks, whoever waits or submits
// next opens another, and what had not landed is asked for once more; a batch whose connection
// breaks twice, or can't be opened again, fails with UNAVAILABLE. Contract: transport.h.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/rdma/rdma_batch.h"
#include "client/transport/rdma/rdma_connection.h"
#include "client/transport/rdma/rdma_windows.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

struct RdmaOptions {
  absl::Duration timeout = absl::Seconds(30);  // to attach
  std::string device = {};                     // DEV[:PORT[:GID]]; empty: by the route
  bool reads = false;                          // RdmaReadTransport's way
  // Whether what a connection that broke did not bring is asked for once more, over another.
  bool resend = true;
  // How long a waiting thread looks for rows before it sleeps.
  absl::Duration spin = absl::Microseconds(200);
  SecurityOptions security = {};
};

// What both ways of RDMA begin with.
struct RdmaAttachment {
  AttachedTableSet attached;
  RdmaRoute route;
  std::unique_ptr<RdmaConnection> connection;
  uint64_t max_batch_rows = 0;
  absl::Duration spin;
  bool resend = true;
};
// GrpcTransport::Attach's errors, and: UNIMPLEMENTED when the owner has no RDMA, NOT_FOUND when no
// device leads to it, RESOURCE_EXHAUSTED when memory can't be pinned.
absl::StatusOr<RdmaAttachment> AttachRdma(const std::string& address, const std::string& table_set,
                                          const RdmaOptions& options);

class RdmaTransport : public Transport {
 public:
  // AttachRdma has the errors. `options.reads` gives the transport of rdma_read_transport.h.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           const RdmaOptions& options);
  explicit RdmaTransport(RdmaAttachment attachment);
  ~RdmaTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attached_; }
  absl::Status Register(absl::Span<std::byte> buffer) override;
  absl::Status Unregister(absl::Span<std::byte> buffer) override;
  absl::Status RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer) override;
  absl::Status WaitSuperseded(std::stop_token stop) override;
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t index) override;
  void Cancel(Ticket ticket) override;
  void Reap(Ticket ticket) override;

  // For measurement: of the connection there is now.
  RdmaCounts Counts();
  // For tests: the queue pair to error, as a fault would.
  void BreakForTest();

 protected:
  RdmaTransport(RdmaAttachment attachment, absl::string_view name);

  // What differs where this side reads (rdma_read_transport.h). All need mutex_.
  virtual void SendRequests();
  virtual void TakeSuccess(const ibv_wc& completion);
  virtual void ForgetRequests();  // nothing of them is under way any more: Interrupted, each
  virtual absl::Status OnConnected() { return absl::OkStatus(); }

  void Fail(RdmaBatch& batch, absl::Status status);
  void Interrupted(std::shared_ptr<RdmaBatch> batch);
  // The queue pair is of no more use; the lease may say why.
  void Suspect(absl::Status status);
  // The oldest batch with something to send; null when there is none.
  std::shared_ptr<RdmaBatch> NextToSend();
  RdmaConnection& connection() { return *connection_; }
  const RdmaRoute& route() const { return route_; }
  // Ends every ticket; of a destructor.
  void Shut();

 private:
  // A request under way; the batch is there until the owner has answered, whatever became of it.
  struct Slot {
    std::shared_ptr<RdmaBatch> batch;
    RdmaBatch::Request request;
    uint32_t answered = 0;  // a bit a layer
    uint16_t generation = 0;
  };

  absl::Status WaitUntil(Ticket ticket, size_t index);
  void Sleep(std::unique_lock<std::mutex>& lock, MonotonicTime until);
  absl::Status Reconnect(std::unique_lock<std::mutex>& lock, MonotonicTime deadline);
  // These need mutex_.
  std::shared_ptr<RdmaBatch> Spare();
  void Advance();
  void TakeCompletion(const ibv_wc& completion);
  void TakeImmediate(uint32_t immediate);
  void TakeRefusal(absl::Span<const std::byte> bytes);
  Slot* FindSlot(RdmaTag tag);
  void Answered(Slot& slot);
  void Break(absl::Status status);
  void FailQueue(const absl::Status& status);
  void FailLate(RdmaBatch& batch);
  void LetGo(std::shared_ptr<RdmaBatch> batch);

  const AttachedTableSet attached_;
  RdmaRoute route_;
  const Capabilities capabilities_;
  const absl::Duration spin_;
  const bool resend_;
  RdmaWindows windows_;
  TicketTable<RdmaBatch> tickets_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool somebody_sleeps_ = false;  // on the channel; others on changed_
  std::shared_ptr<RdmaConnection> connection_;
  absl::Status suspected_;  // the queue pair broke: the lease may say why
  MonotonicTime suspected_at_;
  absl::Status broken_;  // why there is no connection
  MonotonicTime broken_at_;
  bool reconnecting_ = false;
  MonotonicTime next_try_;
  uint64_t batches_ = 0;
  std::array<Slot, kRdmaCredits> slots_;
  std::vector<uint8_t> free_slots_;
  std::vector<std::shared_ptr<RdmaBatch>> queue_;        // with requests to send, oldest first
  std::vector<std::shared_ptr<RdmaBatch>> interrupted_;  // while a connection is let go
  std::vector<std::shared_ptr<RdmaBatch>> spare_;
};

}  // namespace engram
