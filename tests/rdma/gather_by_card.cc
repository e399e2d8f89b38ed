// Whether the card should gather: one write of many pieces straight from a registered table, beside
// copying the rows together and one write of one piece. Prints the time a row of both, in turns;
// both ends are in this process.
//   tests/rdma/guest.sh -- bazel-bin/tests/rdma/gather_by_card [DEVICE]
// What it said on a software device stands in tests/bench/RESULTS.md; on a card it may say
// something else.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "absl/strings/string_view.h"
#include "memstore/gather/gather.h"
#include "memstore/rdma/verbs.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 264;
constexpr uint64_t kRows = 200'000;
constexpr uint32_t kPieces = 16;  // of one write: what devices have at least
constexpr int kTurns = 9, kRounds = 20;

// A queue pair connected to itself, which may send lists of pieces.
class Loop {
 public:
  explicit Loop(const std::shared_ptr<RdmaDomain>& domain) {
    channel_ = RdmaChannel::Create(domain->device()).value();
    completions_ = RdmaCompletions::Create(channel_, *domain->device(), 1024).value();
    pair_ = RdmaQueuePair::Create(domain, completions_,
                                  {.sends = 512, .receives = 1, .pieces = kPieces},
                                  IBV_ACCESS_REMOTE_WRITE)
                .value();
    const absl::Status status = pair_.Connect(pair_.Own());
    if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  }
  // Posts the chain and waits for its last write.
  void Write(std::vector<ibv_send_wr>& writes) {
    for (size_t i = 0; i + 1 < writes.size(); ++i) writes[i].next = &writes[i + 1];
    writes.back().next = nullptr;
    writes.back().send_flags = IBV_SEND_SIGNALED;
    ibv_send_wr* bad = nullptr;
    if (ibv_post_send(pair_.get(), writes.data(), &bad) != 0) std::abort();
    ibv_wc done;
    while (completions_.Poll({&done, 1}) == 0) {
    }
    if (done.status != IBV_WC_SUCCESS) {
      std::fprintf(stderr, "%s\n", RdmaFailure(done).c_str());
      std::abort();
    }
  }

 private:
  std::shared_ptr<RdmaChannel> channel_;
  RdmaCompletions completions_;
  RdmaQueuePair pair_;
};

ibv_send_wr WriteTo(const RdmaBuffer& to, uint64_t offset, ibv_sge* pieces, uint32_t count) {
  ibv_send_wr write{};
  write.sg_list = pieces;
  write.num_sge = static_cast<int>(count);
  write.opcode = IBV_WR_RDMA_WRITE;
  write.wr.rdma.remote_addr = reinterpret_cast<uintptr_t>(to.data()) + offset;
  write.wr.rdma.rkey = to.region().remote_key();
  return write;
}

double Microseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

int Run(const char* name) {
  auto device = RdmaDevice::Open({.device = name});
  if (!device.ok()) {
    std::fprintf(stderr, "%s\n", std::string(device.status().message()).c_str());
    return 1;
  }
  const auto domain = RdmaDomain::Create(*device).value();
  const RdmaBuffer table = RdmaBuffer::Create(domain, kRows * kRowBytes, 0).value();
  Loop loop(domain);
  std::printf(
      "rows  gathered by the processor  by the card  (us a row, medians of %d turns)  "
      "card/processor\n",
      kTurns);
  for (const uint32_t rows : {48u, 768u, 1920u}) {
    const uint64_t bytes = uint64_t{rows} * kRowBytes;
    const RdmaBuffer slab = RdmaBuffer::Create(domain, bytes, 0).value();
    const RdmaBuffer landing =
        RdmaBuffer::Create(domain, bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE).value();
    std::mt19937_64 random(rows);
    std::vector<RowId> ids(rows);
    std::vector<double> processor, card;
    std::vector<ibv_sge> pieces(rows);
    std::vector<ibv_send_wr> writes;
    const auto time = [&](const auto& work) {
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < kRounds; ++i) work();
      return Microseconds(std::chrono::steady_clock::now() - begin) / kRounds / rows;
    };
    for (int turn = 0; turn < kTurns; ++turn) {
      for (RowId& id : ids) id = random() % kRows;
      processor.push_back(time([&] {
        Gather<RowId>({.base = table.data(), .rows = kRows, .row_bytes = kRowBytes}, ids,
                      {.data = slab.data()});
        ibv_sge piece{reinterpret_cast<uintptr_t>(slab.data()), static_cast<uint32_t>(bytes),
                      slab.local_key()};
        writes.assign(1, WriteTo(landing, 0, &piece, 1));
        loop.Write(writes);
      }));
      card.push_back(time([&] {
        writes.clear();
        for (uint32_t i = 0; i < rows; ++i) {
          pieces[i] = {reinterpret_cast<uintptr_t>(table.data()) + ids[i] * kRowBytes, kRowBytes,
                       table.local_key()};
        }
        for (uint32_t i = 0; i < rows; i += kPieces) {
          writes.push_back(
              WriteTo(landing, uint64_t{i} * kRowBytes, &pieces[i], std::min(kPieces, rows - i)));
        }
        loop.Write(writes);
      }));
    }
    const auto median = [](std::vector<double>& values) {
      std::nth_element(values.begin(), values.begin() + kTurns / 2, values.end());
      return values[kTurns / 2];
    };
    const double by_processor = median(processor), by_card = median(card);
    std::printf("%4u  %25.2f  %11.2f  %54.2f\n", rows, by_processor, by_card,
                by_card / by_processor);
  }
  return 0;
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  const char* const named =
      argc > 1 ? argv[1]
               : std::getenv("RDMA_DEV");  // NOLINT(concurrency-mt-unsafe): the only thread
  return engram::Run(named == nullptr ? "" : named);
}
