// RDMA's other way (mode "read"): the client reads every row from the owner's tables by itself, one
// READ a row, and the owner's CPU has no part in it.
//
// For measurement, and for owners with no CPU to spare: a NIC's message rate caps it. The state of
// the set is read before and after a batch's rows, as by who maps the tables (control_page.h); all
// layers land at once. As RequestWay: called under the exchange's lock.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/rdma/rdma_connection.h"
#include "client/transport/rdma/rdma_remote_table.h"
#include "client/transport/rdma/request_way.h"
#include "memstore/table/manifest.h"

namespace engram {

class RdmaReadWay final : public RequestWay {
 public:
  // INTERNAL: the owner's tables are not what the manifest says.
  static absl::StatusOr<std::unique_ptr<RdmaReadWay>> Create(
      std::shared_ptr<RdmaConnection> connection, const std::shared_ptr<RdmaDomain>& domain,
      const Manifest& manifest);

  absl::Status Check(const RdmaBatch& batch) const override;
  absl::Status Send(RdmaSendQueue& queue, RdmaTickets& tickets) override;
  absl::StatusOr<bool> TakeCompletions(RdmaTickets& tickets) override;
  void ForgetAll(std::vector<RdmaBatch*>* batches) override;

 private:
  // Reads that were posted together; they complete together and in order.
  struct Posted {
    RdmaBatch* batch = nullptr;
    uint32_t reads = 0;
    bool last = false;  // of the batch
  };

  RdmaReadWay(std::shared_ptr<RdmaConnection> connection, std::string set_id)
      : connection_(std::move(connection)), set_id_(std::move(set_id)) {}
  absl::Status TakeTables(const Manifest& manifest);
  void AddRow(const RdmaBatch::Read& read);
  void AddState(uint32_t word);
  void Add(std::byte* to, uint32_t local_key, const RemoteRegion& from);
  absl::Status PostChain(Posted posted);
  void TakeChain(RdmaTickets& tickets);
  void Finish(RdmaBatch& batch, RdmaTickets& tickets) const;

  const std::shared_ptr<RdmaConnection> connection_;
  const std::string set_id_;
  RdmaRemoteSet tables_;
  RemoteRegion state_;  // the word that says whether rows count
  RdmaBuffer states_;   // two words for each batch that has reads posted
  uint64_t started_ = 0;

  // A chain while it is filled: rows, each of which may lie in two regions, and states.
  static constexpr uint32_t kChain = kRdmaReadSignalEvery + 3;
  std::array<ibv_send_wr, kChain> reads_;
  std::array<ibv_sge, kChain> places_;
  uint32_t filled_ = 0;

  std::array<Posted, kRdmaReadQueue> posted_;  // a ring
  uint32_t posted_head_ = 0, posted_tail_ = 0;
  uint32_t reads_out_ = 0;
};

}  // namespace engram
