// The client's side of a ring, whose owner a test plays by hand.
#include "client/transport/shm/shm_ring.h"

#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::Each;

constexpr uint32_t kRowBytes = 8;

class ShmRingTest : public ::testing::Test {
 protected:
  ShmRingTest() : control_(ControlPage::Create(std::string(64, 'a')).value()) {
    void* const region = mmap(nullptr, kRingBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ring_ = RingView(static_cast<std::byte*>(region));
    ShmAttachment attachment{.socket = {},
                             .attached = {},
                             .control = ControlView::Map(control_->memfd(), Id()).value(),
                             .memory = {},
                             .layers = {},
                             .max_batch_rows = 1 << 20};
    attachment.attached.manifest.id = Id();
    LayerTableSpec& layer = attachment.attached.manifest.layers.emplace_back();
    layer.layer = 1;
    layer.rows = 1 << 20;
    layer.row_bytes = kRowBytes;
    attachment.memory.emplace_back(static_cast<std::byte*>(region), kRingBytes);
    transport_ =
        std::make_unique<ShmRingTransport>(ForkMark::Make().value(), std::move(attachment), clock_);
  }
  static std::string Id() { return std::string(64, 'a'); }

  // Asks for as many rows as the buffer holds.
  absl::StatusOr<Ticket> Submit(std::vector<std::byte>& buffer,
                                MonotonicTime deadline = MonotonicTime::Infinite(),
                                absl::Span<const uint32_t> places = {}) {
    const std::vector<RowId> ids(buffer.size() / kRowBytes, 3);
    const LayerRequest layer = {
        .layer = 1, .row_ids = ids, .landing = {.data = buffer.data(), .places = places}};
    return transport_->Submit({.layers = {&layer, 1}, .deadline = deadline});
  }
  // Completes the slot that was filled next, as the owner does: row i of it holds first + i.
  void Complete(uint8_t first, uint32_t wrong_by = 0) {
    RingSlot& slot = ring_.slot(completed_);
    for (uint32_t i = 0; i < slot.rows; ++i) {
      std::memset(ring_.rows(completed_) + size_t{i} * kRowBytes, static_cast<uint8_t>(first + i),
                  kRowBytes);
    }
    slot.code = 0;
    slot.completed_sequence = completed_ + wrong_by;
    ring_.header().completed = ++completed_;
  }

  FakeClock clock_;
  const std::unique_ptr<ControlPage> control_;
  RingView ring_;
  uint32_t completed_ = 0;
  std::unique_ptr<ShmRingTransport> transport_;
};

TEST_F(ShmRingTest, LandsRowsWhereTheyAreListed) {
  std::vector<std::byte> buffer(size_t{4} * kRowBytes);
  std::vector<uint32_t> places = {3, 0, 1, 2};
  const Ticket ticket = Submit(buffer, MonotonicTime::Infinite(), places).value();
  places.assign(4, 0);  // a copy is kept
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kInFlight);
  Complete(10);
  EXPECT_TRUE(transport_->Wait(ticket).ok());
  const uint8_t expected[] = {11, 12, 13, 10};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(buffer[i * kRowBytes], std::byte{expected[i]});
}

TEST_F(ShmRingTest, ALateOwnerNeverTouchesABufferThatWasGivenBack) {
  std::vector<std::byte> buffer(size_t{4} * kRowBytes);
  const Ticket reaped = Submit(buffer).value();
  transport_->Reap(reaped);
  std::fill(buffer.begin(), buffer.end(), std::byte{7});
  std::vector<std::byte> other(size_t{2} * kRowBytes);
  const Ticket next = Submit(other).value();  // in the batch that was used before
  Complete(1);
  EXPECT_EQ(transport_->Poll(next), TicketState::kInFlight);
  Complete(5);
  EXPECT_EQ(transport_->Poll(next), TicketState::kLanded);
  EXPECT_EQ(other[0], std::byte{5});
  EXPECT_THAT(buffer, Each(std::byte{7}));
}

TEST_F(ShmRingTest, ABatchThatFailedIsWrittenToNoMore) {
  std::vector<std::byte> buffer(size_t{4} * kRowBytes, std::byte{7});
  const Ticket ticket = Submit(buffer, clock_.After(absl::Seconds(1))).value();
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kFailedLent);
  EXPECT_EQ(transport_->Wait(ticket).code(), absl::StatusCode::kDeadlineExceeded);
  Complete(1);
  EXPECT_EQ(transport_->Poll(ticket), TicketState::kFailedLent);
  EXPECT_THAT(buffer, Each(std::byte{7}));
}

TEST_F(ShmRingTest, ASlotThatAnswersAnotherOneFailsItsBatchAndTheRing) {
  std::vector<std::byte> buffer(size_t{4} * kRowBytes, std::byte{7});
  const Ticket ticket = Submit(buffer).value();
  Complete(1, /*wrong_by=*/1);
  EXPECT_EQ(transport_->Wait(ticket).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Submit(buffer).status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(buffer, Each(std::byte{7}));
}

TEST_F(ShmRingTest, ASetThatRetiresTakesNoFurtherBatch) {
  std::vector<std::byte> buffer(kRowBytes);
  const Ticket before = Submit(buffer).value();
  control_->Advance(TableSetState::kRetiring);
  EXPECT_EQ(Submit(buffer).status().code(), absl::StatusCode::kFailedPrecondition);
  Complete(1);
  EXPECT_TRUE(transport_->Wait(before).ok());
}

TEST_F(ShmRingTest, AnotherSetsControlPageIsNotTaken) {
  EXPECT_EQ(ControlView::Map(control_->memfd(), std::string(64, 'b')).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace engram
