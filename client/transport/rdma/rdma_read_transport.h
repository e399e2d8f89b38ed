// RDMA's other way (mode "read"): the client reads every row from the owner's tables by itself, one
// READ a row, and the owner's CPU has no part in it.
//
// For measurement, and for owners with no CPU to spare: a NIC's message rate caps it. The state of
// the set is read before and after a batch's rows, as by who maps the tables (control_page.h); all
// layers land at once. Else as RdmaTransport.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/rdma/rdma_transport.h"

namespace engram {

class RdmaReadTransport final : public RdmaTransport {
 public:
  // INTERNAL: the owner's tables are not what its manifest says.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(RdmaAttachment attachment);
  ~RdmaReadTransport() override { Shut(); }

 private:
  struct Piece {
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint32_t key = 0;
  };
  // A layer's rows at the owner, in pieces of one size but for the last.
  struct Table {
    uint32_t layer = 0;
    std::vector<Piece> pieces;
  };
  // Reads that were posted together; they complete together and in order.
  struct Posted {
    std::shared_ptr<RdmaBatch> batch;
    uint32_t reads = 0;
    bool last = false;  // of the batch
  };

  explicit RdmaReadTransport(RdmaAttachment attachment)
      : RdmaTransport(std::move(attachment), "rdma-read") {}
  absl::Status OnConnected() override;
  void SendRequests() override;
  void TakeSuccess(const ibv_wc& completion) override;
  void ForgetRequests() override;

  absl::Status TakeTable(const v1::RdmaTable& table);
  void AddRow(const RdmaBatch::Read& read);
  void AddState(uint32_t word);
  void Add(std::byte* to, uint32_t local_key, uint32_t bytes, uint64_t from, uint32_t key);
  void PostChain(Posted posted);
  void Finish(RdmaBatch& batch) const;

  std::vector<Table> tables_;
  Piece state_;
  RdmaBuffer states_;  // two words for each batch that has reads posted
  uint64_t started_ = 0;

  // A chain while it is filled: rows, each of which may lie in two pieces, and states.
  static constexpr uint32_t kChain = kRdmaReadSignalEvery + 3;
  std::array<ibv_send_wr, kChain> reads_;
  std::array<ibv_sge, kChain> places_;
  uint32_t filled_ = 0;

  std::array<Posted, kRdmaReadQueue> posted_;  // a ring
  uint32_t posted_head_ = 0, posted_tail_ = 0;
  uint32_t reads_out_ = 0;
};

}  // namespace engram
